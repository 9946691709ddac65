//+------------------------------------------------------------------+
//|                                                        State.mqh |
//|             What must survive a restart of the terminal          |
//+------------------------------------------------------------------+
// A small text file, written beside and moved into place, so that a crash leaves the old one or the new one.
#ifndef TUNETRADE_STATE_MQH
#define TUNETRADE_STATE_MQH

// A text as a file can be called: brokers have symbols like BTC/USD.
string FileName(const string text)
  {
   string name="";
   for(int i=0; i<StringLen(text); i++)
     {
      string c=StringSubstr(text,i,1);
      name+=(StringFind("\\/:*?\"<>|",c)>=0 ? "_" : c);
     }
   return(name);
  }
//+------------------------------------------------------------------+
class CState
  {
private:
   string            m_file;
   ulong             m_positions[];   // identifiers of positions whose stop follows, and how far behind
   double            m_distances[];

   bool              Read(const string name);

public:
   long              last_epoch;
   long              last_seq;
   long              decided_ms;      // bar of the newest forecast decided on: none is decided twice
   long              expiry_ms;       // of the Target that is held; 0 for none
   int               leave;           // side that the last forecast gave up, until nothing of it is held
   long              last_deal;       // newest deal the server has confirmed
   long              day;             // broker's day, days since 1970
   double            day_equity;      // equity at its begin
   bool              halted;          // lost too much today
   double            paper_lots;      // position of a dry run, negative is short
   double            paper_price;
   double            paper_stop;
   double            paper_profit;
   double            paper_trailing;
   long              paper_deals;

                     CState(void);
   void              SetFile(const string file);
   bool              Load(void);
   bool              Save(void) const;
   double            Trailing(const ulong position) const;
   void              SetTrailing(const ulong position,const double distance);
   void              ForgetTrailing(const ulong &open[],const int count);
  };
//+------------------------------------------------------------------+
CState::CState(void)
  {
   SetFile("");
  }
//+------------------------------------------------------------------+
// Forgets what was known: a terminal keeps global objects when inputs or the chart's period change.
void CState::SetFile(const string file)
  {
   m_file=file;
   last_epoch=0;
   last_seq=0;
   decided_ms=0;
   expiry_ms=0;
   leave=0;
   last_deal=0;
   day=0;
   day_equity=0.0;
   halted=false;
   paper_lots=0.0;
   paper_price=0.0;
   paper_stop=0.0;
   paper_profit=0.0;
   paper_trailing=0.0;
   paper_deals=0;
   ArrayResize(m_positions,0);
   ArrayResize(m_distances,0);
  }
//+------------------------------------------------------------------+
// Distance at which the stop of a position follows, 0 for none.
double CState::Trailing(const ulong position) const
  {
   for(int i=0; i<ArraySize(m_positions); i++)
      if(m_positions[i]==position)
         return(m_distances[i]);
   return(0.0);
  }
//+------------------------------------------------------------------+
void CState::SetTrailing(const ulong position,const double distance)
  {
   int count=ArraySize(m_positions);
   int at=0;
   while(at<count && m_positions[at]!=position)
      at++;
   if(at==count)
     {
      ArrayResize(m_positions,count+1);
      ArrayResize(m_distances,count+1);
      m_positions[at]=position;
     }
   m_distances[at]=distance;
  }
//+------------------------------------------------------------------+
// Keeps the positions that are still open.
void CState::ForgetTrailing(const ulong &open[],const int count)
  {
   int kept=0;
   for(int i=0; i<ArraySize(m_positions); i++)
     {
      bool found=false;
      for(int j=0; j<count && !found; j++)
         found=(open[j]==m_positions[i]);
      if(found)
        {
         m_positions[kept]=m_positions[i];
         m_distances[kept]=m_distances[i];
         kept++;
        }
     }
   ArrayResize(m_positions,kept);
   ArrayResize(m_distances,kept);
  }
//+------------------------------------------------------------------+
// A terminal that dies while it moves the new file into place may leave that one alone.
bool CState::Load(void)
  {
   return(Read(m_file) || Read(m_file+".new"));
  }
//+------------------------------------------------------------------+
bool CState::Read(const string name)
  {
   if(!FileIsExist(name))
      return(false);
   int file=FileOpen(name,FILE_READ|FILE_BIN);
   if(file==INVALID_HANDLE)
      return(false);
   uchar bytes[];
   FileReadArray(file,bytes);
   FileClose(file);
   string words[];
   int count=StringSplit(CharArrayToString(bytes,0,ArraySize(bytes),CP_UTF8),';',words);
   if(count<18 || words[0]!="3" || words[count-1]!="end")
      return(false);
   int following=(int)StringToInteger(words[16]);
   if(following<0 || count!=18+2*following)
      return(false);
   last_epoch=StringToInteger(words[1]);
   last_seq=StringToInteger(words[2]);
   decided_ms=StringToInteger(words[3]);
   expiry_ms=StringToInteger(words[4]);
   last_deal=StringToInteger(words[5]);
   day=StringToInteger(words[6]);
   day_equity=StringToDouble(words[7]);
   halted=(words[8]=="1");
   paper_lots=StringToDouble(words[9]);
   paper_price=StringToDouble(words[10]);
   paper_stop=StringToDouble(words[11]);
   paper_profit=StringToDouble(words[12]);
   paper_trailing=StringToDouble(words[13]);
   paper_deals=StringToInteger(words[14]);
   leave=(int)StringToInteger(words[15]);
   for(int i=0; i<following; i++)
      SetTrailing((ulong)StringToInteger(words[17+2*i]),StringToDouble(words[18+2*i]));
   return(true);
  }
//+------------------------------------------------------------------+
// Without a file, as in the tester, there is nothing to survive.
bool CState::Save(void) const
  {
   if(m_file=="")
      return(true);
   string text=StringFormat("3;%I64d;%I64d;%I64d;%I64d;",last_epoch,last_seq,decided_ms,expiry_ms);
   text+=StringFormat("%I64d;%I64d;%.17g;%s;",last_deal,day,day_equity,halted ? "1" : "0");
   text+=StringFormat("%.17g;%.17g;%.17g;%.17g;%.17g;",paper_lots,paper_price,paper_stop,paper_profit,paper_trailing);
   text+=StringFormat("%I64d;%d;%d;",paper_deals,leave,ArraySize(m_positions));
   for(int i=0; i<ArraySize(m_positions); i++)
      text+=StringFormat("%I64u;%.17g;",m_positions[i],m_distances[i]);
   text+="end";
   uchar bytes[];
   int size=StringToCharArray(text,bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   int file=FileOpen(m_file+".new",FILE_WRITE|FILE_BIN);
   if(file==INVALID_HANDLE)
      return(false);
   bool whole=(FileWriteArray(file,bytes,0,size)==(uint)size);
   FileFlush(file);
   whole=whole && FileSize(file)==(ulong)size;
   FileClose(file);
   return(whole && FileMove(m_file+".new",0,m_file,FILE_REWRITE));
  }
#endif
//+------------------------------------------------------------------+
