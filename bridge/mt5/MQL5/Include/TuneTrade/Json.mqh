//+------------------------------------------------------------------+
//|                                                         Json.mqh |
//|       One flat JSON object, strictly: read from bytes, written   |
//+------------------------------------------------------------------+
// Values are strings, numbers, true, false, null and lists of numbers (PROTOCOL.md, Frames). Everything is bounded;
// what is not exactly such an object is refused with a reason.
#ifndef TUNETRADE_JSON_MQH
#define TUNETRADE_JSON_MQH

#define JSON_MAX_BYTES  262144
#define JSON_MAX_FIELDS 128
#define JSON_MAX_LIST   4096
#define JSON_MAX_NUMBER 40

enum ENUM_JSON_KIND
  {
   JSON_STRING=0,
   JSON_NUMBER=1,
   JSON_TRUE=2,
   JSON_FALSE=3,
   JSON_NULL=4,
   JSON_LIST=5
  };
//+------------------------------------------------------------------+
class CJson
  {
private:
   uchar             m_bytes[];
   int               m_size;
   int               m_at;
   string            m_reason;
   string            m_keys[];
   ENUM_JSON_KIND    m_kinds[];
   string            m_texts[];
   double            m_numbers[];
   int               m_starts[];
   int               m_counts[];
   int               m_fields;
   double            m_list[];
   int               m_listed;

   bool              Fail(const string reason);
   int               Look(void) const { return(m_at<m_size ? (int)m_bytes[m_at] : -1); }
   void              SkipSpace(void);
   bool              Expect(const int character);
   bool              Word(const string word);
   bool              IsUtf8(void) const;
   bool              ReadString(string &text);
   int               ReadHex(void);
   bool              ReadNumber(string &text,double &number);
   bool              ReadList(void);
   bool              ReadValue(void);
   int               Find(const string key) const;

public:
                     CJson(void);
   bool              Parse(const uchar &bytes[],const int size);
   string            Reason(void) const { return(m_reason); }
   int               Fields(void) const { return(m_fields); }
   bool              Has(const string key) const { return(Find(key)>=0); }
   bool              IsNull(const string key) const;
   bool              GetString(const string key,string &text) const;
   bool              GetNumber(const string key,double &number) const;
   bool              GetInteger(const string key,long &number) const;
   bool              GetBool(const string key,bool &flag) const;
   int               ListSize(const string key) const;
   double            ListItem(const string key,const int index) const;
  };
//+------------------------------------------------------------------+
CJson::CJson(void)
  {
   m_size=0;
   m_at=0;
   m_reason="";
   m_fields=0;
   m_listed=0;
  }
//+------------------------------------------------------------------+
bool CJson::Fail(const string reason)
  {
   m_fields=0;
   m_reason=reason+" at byte "+IntegerToString(m_at);
   return(false);
  }
//+------------------------------------------------------------------+
bool CJson::Parse(const uchar &bytes[],const int size)
  {
   m_at=0;
   m_size=0;
   m_fields=0;
   m_listed=0;
   m_reason="";
   if(size<2 || size>JSON_MAX_BYTES || size>ArraySize(bytes))
      return(Fail("size"));
   ArrayResize(m_bytes,size);
   ArrayCopy(m_bytes,bytes,0,0,size);
   m_size=size;
   if(!IsUtf8())
      return(Fail("not UTF-8"));
   SkipSpace();
   if(!Expect('{'))
      return(Fail("no object"));
   SkipSpace();
   bool first=true;
   while(Look()!='}')
     {
      if(!first && !Expect(','))
         return(Fail("comma or end expected"));
      SkipSpace();
      string key="";
      if(!ReadString(key))
         return(Fail("key expected"));
      if(Find(key)>=0)
         return(Fail("a key twice"));
      if(m_fields>=JSON_MAX_FIELDS)
         return(Fail("too many fields"));
      SkipSpace();
      if(!Expect(':'))
         return(Fail("colon expected"));
      SkipSpace();
      int reserve=JSON_MAX_FIELDS;
      ArrayResize(m_keys,m_fields+1,reserve);
      ArrayResize(m_kinds,m_fields+1,reserve);
      ArrayResize(m_texts,m_fields+1,reserve);
      ArrayResize(m_numbers,m_fields+1,reserve);
      ArrayResize(m_starts,m_fields+1,reserve);
      ArrayResize(m_counts,m_fields+1,reserve);
      m_keys[m_fields]=key;
      m_texts[m_fields]="";
      m_numbers[m_fields]=0.0;
      m_starts[m_fields]=m_listed;
      m_counts[m_fields]=0;
      if(!ReadValue())
         return(Fail("value"));
      m_fields++;
      SkipSpace();
      first=false;
     }
   m_at++;
   SkipSpace();
   if(m_at!=m_size)
      return(Fail("more after the object"));
   return(true);
  }
//+------------------------------------------------------------------+
void CJson::SkipSpace(void)
  {
   while(Look()==' ' || Look()=='\t' || Look()=='\r' || Look()=='\n')
      m_at++;
  }
//+------------------------------------------------------------------+
bool CJson::Expect(const int character)
  {
   if(Look()!=character)
      return(false);
   m_at++;
   return(true);
  }
//+------------------------------------------------------------------+
bool CJson::Word(const string word)
  {
   int length=StringLen(word);
   for(int i=0; i<length; i++)
      if(m_at+i>=m_size || m_bytes[m_at+i]!=StringGetCharacter(word,i))
         return(false);
   m_at+=length;
   return(true);
  }
//+------------------------------------------------------------------+
// RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool CJson::IsUtf8(void) const
  {
   int i=0;
   while(i<m_size)
     {
      int lead=m_bytes[i];
      int more=(lead<0x80 ? 0 : (lead>=0xC2 && lead<0xE0 ? 1 : (lead>=0xE0 && lead<0xF0 ? 2 : (lead>=0xF0 && lead<0xF5 ? 3 : -1))));
      if(more<0 || i+more>=m_size)
         return(false);
      for(int k=1; k<=more; k++)
         if((m_bytes[i+k]&0xC0)!=0x80)
            return(false);
      if((lead==0xE0 && m_bytes[i+1]<0xA0) || (lead==0xED && m_bytes[i+1]>0x9F))
         return(false);
      if((lead==0xF0 && m_bytes[i+1]<0x90) || (lead==0xF4 && m_bytes[i+1]>0x8F))
         return(false);
      i+=1+more;
     }
   return(true);
  }
//+------------------------------------------------------------------+
int CJson::ReadHex(void)
  {
   int value=0;
   for(int i=0; i<4; i++)
     {
      int c=Look();
      int digit=-1;
      if(c>='0' && c<='9')
         digit=c-'0';
      else
         if(c>='a' && c<='f')
            digit=c-'a'+10;
         else
            if(c>='A' && c<='F')
               digit=c-'A'+10;
      if(digit<0)
         return(-1);
      value=value*16+digit;
      m_at++;
     }
   return(value);
  }
//+------------------------------------------------------------------+
bool CJson::ReadString(string &text)
  {
   text="";
   if(!Expect('"'))
      return(false);
   int from=m_at;
   while(true)
     {
      int c=Look();
      if(c<0x20)
         return(false);                  // the end of the bytes, or a control character
      if(c!='"' && c!='\\')
        {
         m_at++;
         continue;
        }
      if(m_at>from)
         text+=CharArrayToString(m_bytes,from,m_at-from,CP_UTF8);
      m_at++;
      if(c=='"')
         return(true);
      int escape=Look();
      m_at++;
      switch(escape)
        {
         case '"':
         case '\\':
         case '/':
            text+=ShortToString((ushort)escape);
            break;
         case 'b':
            text+=ShortToString(8);
            break;
         case 'f':
            text+=ShortToString(12);
            break;
         case 'n':
            text+=ShortToString(10);
            break;
         case 'r':
            text+=ShortToString(13);
            break;
         case 't':
            text+=ShortToString(9);
            break;
         case 'u':
           {
            int unit=ReadHex();
            if(unit<=0 || (unit>=0xDC00 && unit<0xE000))
               return(false);            // a zero would end the string
            text+=ShortToString((ushort)unit);
            if(unit>=0xD800 && unit<0xDC00)
              {
               if(!Expect('\\') || !Expect('u'))
                  return(false);
               int low=ReadHex();
               if(low<0xDC00 || low>=0xE000)
                  return(false);
               text+=ShortToString((ushort)low);
              }
            break;
           }
         default:
            return(false);
        }
      from=m_at;
     }
   return(false);
  }
//+------------------------------------------------------------------+
// The grammar is checked here, since StringToDouble takes what it can and is silent about the rest.
bool CJson::ReadNumber(string &text,double &number)
  {
   int from=m_at;
   if(Look()=='-')
      m_at++;
   if(Look()<'0' || Look()>'9')
      return(false);
   if(Look()=='0')
      m_at++;
   else
      while(Look()>='0' && Look()<='9')
         m_at++;
   if(Look()=='.')
     {
      m_at++;
      if(Look()<'0' || Look()>'9')
         return(false);
      while(Look()>='0' && Look()<='9')
         m_at++;
     }
   if(Look()=='e' || Look()=='E')
     {
      m_at++;
      if(Look()=='+' || Look()=='-')
         m_at++;
      if(Look()<'0' || Look()>'9')
         return(false);
      while(Look()>='0' && Look()<='9')
         m_at++;
     }
   if(m_at-from>JSON_MAX_NUMBER)
      return(false);
   text=CharArrayToString(m_bytes,from,m_at-from,CP_UTF8);
   number=StringToDouble(text);
   return(MathIsValidNumber(number));
  }
//+------------------------------------------------------------------+
bool CJson::ReadList(void)
  {
   m_at++;
   SkipSpace();
   if(Expect(']'))
      return(true);
   while(true)
     {
      SkipSpace();
      string text="";
      double number=0.0;
      if(m_listed>=JSON_MAX_LIST || !ReadNumber(text,number))
         return(false);
      ArrayResize(m_list,m_listed+1,JSON_MAX_LIST);
      m_list[m_listed]=number;
      m_listed++;
      m_counts[m_fields]++;
      SkipSpace();
      if(Expect(']'))
         return(true);
      if(!Expect(','))
         return(false);
     }
   return(false);
  }
//+------------------------------------------------------------------+
bool CJson::ReadValue(void)
  {
   int c=Look();
   if(c=='"')
     {
      m_kinds[m_fields]=JSON_STRING;
      return(ReadString(m_texts[m_fields]));
     }
   if(c=='[')
     {
      m_kinds[m_fields]=JSON_LIST;
      return(ReadList());
     }
   if(Word("true"))
     {
      m_kinds[m_fields]=JSON_TRUE;
      return(true);
     }
   if(Word("false"))
     {
      m_kinds[m_fields]=JSON_FALSE;
      return(true);
     }
   if(Word("null"))
     {
      m_kinds[m_fields]=JSON_NULL;
      return(true);
     }
   m_kinds[m_fields]=JSON_NUMBER;
   return(ReadNumber(m_texts[m_fields],m_numbers[m_fields]));
  }
//+------------------------------------------------------------------+
int CJson::Find(const string key) const
  {
   for(int i=0; i<m_fields; i++)
      if(m_keys[i]==key)
         return(i);
   return(-1);
  }
//+------------------------------------------------------------------+
bool CJson::IsNull(const string key) const
  {
   int i=Find(key);
   return(i>=0 && m_kinds[i]==JSON_NULL);
  }
//+------------------------------------------------------------------+
bool CJson::GetString(const string key,string &text) const
  {
   int i=Find(key);
   if(i<0 || m_kinds[i]!=JSON_STRING)
      return(false);
   text=m_texts[i];
   return(true);
  }
//+------------------------------------------------------------------+
bool CJson::GetNumber(const string key,double &number) const
  {
   int i=Find(key);
   if(i<0 || m_kinds[i]!=JSON_NUMBER)
      return(false);
   number=m_numbers[i];
   return(true);
  }
//+------------------------------------------------------------------+
// Whole numbers of at most 18 digits, without point or exponent.
bool CJson::GetInteger(const string key,long &number) const
  {
   int i=Find(key);
   if(i<0 || m_kinds[i]!=JSON_NUMBER || StringLen(m_texts[i])>18)
      return(false);
   if(StringFind(m_texts[i],".")>=0 || StringFind(m_texts[i],"e")>=0 || StringFind(m_texts[i],"E")>=0)
      return(false);
   number=StringToInteger(m_texts[i]);
   return(true);
  }
//+------------------------------------------------------------------+
bool CJson::GetBool(const string key,bool &flag) const
  {
   int i=Find(key);
   if(i<0 || (m_kinds[i]!=JSON_TRUE && m_kinds[i]!=JSON_FALSE))
      return(false);
   flag=(m_kinds[i]==JSON_TRUE);
   return(true);
  }
//+------------------------------------------------------------------+
int CJson::ListSize(const string key) const
  {
   int i=Find(key);
   return(i>=0 && m_kinds[i]==JSON_LIST ? m_counts[i] : -1);
  }
//+------------------------------------------------------------------+
double CJson::ListItem(const string key,const int index) const
  {
   int i=Find(key);
   if(i<0 || index<0 || index>=m_counts[i])
      return(0.0);
   return(m_list[m_starts[i]+index]);
  }
//+------------------------------------------------------------------+
//| Writing                                                          |
//+------------------------------------------------------------------+
string JsonQuoted(const string text)
  {
   string out="\"";
   int length=StringLen(text);
   for(int i=0; i<length; i++)
     {
      ushort c=StringGetCharacter(text,i);
      bool high=(c>=0xD800 && c<0xDC00);
      bool low=(c>=0xDC00 && c<0xE000);
      if(high && i+1<length && (StringGetCharacter(text,i+1)&0xFC00)==0xDC00)
        {
         out+=StringSubstr(text,i,2);
         i++;
         continue;
        }
      if(c=='"' || c=='\\')
         out+="\\"+ShortToString(c);
      else
         if(c<0x20)
            out+=StringFormat("\\u%04x",(int)c);
         else
            out+=(high || low ? "?" : ShortToString(c));
     }
   return(out+"\"");
  }
//+------------------------------------------------------------------+
// With so many decimals where that is exact, else with all digits a double has.
string JsonNumber(const double number,const int digits)
  {
   if(!MathIsValidNumber(number))
      return("null");
   string text=DoubleToString(number,digits);
   if(StringToDouble(text)==number)
      return(text);
   return(StringFormat("%.17g",number));
  }
//+------------------------------------------------------------------+
class CJsonWriter
  {
private:
   string            m_text;

   void              Key(const string key) { m_text+=(m_text=="{" ? "" : ",")+JsonQuoted(key)+":"; }

public:
                     CJsonWriter(void) { m_text="{"; }
   void              Clear(void) { m_text="{"; }
   void              AddString(const string key,const string text) { Key(key); m_text+=JsonQuoted(text); }
   void              AddInteger(const string key,const long number) { Key(key); m_text+=IntegerToString(number); }
   void              AddNumber(const string key,const double number,const int digits) { Key(key); m_text+=JsonNumber(number,digits); }
   void              AddBool(const string key,const bool flag) { Key(key); m_text+=(flag ? "true" : "false"); }
   void              AddNull(const string key) { Key(key); m_text+="null"; }
   void              AddRaw(const string key,const string value) { Key(key); m_text+=value; }
   string            Text(void) const { return(m_text+"}"); }
  };
#endif
//+------------------------------------------------------------------+
