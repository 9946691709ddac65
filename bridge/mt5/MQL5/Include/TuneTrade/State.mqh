//+------------------------------------------------------------------+
//|                                                        State.mqh |
//|             What must survive a restart of the terminal          |
//+------------------------------------------------------------------+
// A small text file, written beside and moved into place, so that a crash leaves the old one or the new one.
#ifndef TUNETRADE_STATE_MQH
#define TUNETRADE_STATE_MQH

class CState
  {
private:
   string            m_file;

public:
   long              last_epoch;
   long              last_seq;
   long              decided_ms;      // bar of the newest forecast decided on: none is decided twice
   long              expiry_ms;       // of the Target that is held; 0 for none
   double            trailing;
   long              last_deal;       // newest deal the server has confirmed
   long              day;             // broker's day, days since 1970
   double            day_equity;      // equity at its begin
   bool              halted;          // lost too much today
   double            paper_lots;      // position of a dry run, negative is short
   double            paper_price;
   double            paper_stop;
   double            paper_profit;
   long              paper_deals;

                     CState(void);
   void              SetFile(const string file);
   bool              Load(void);
   bool              Save(void) const;
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
   trailing=0.0;
   last_deal=0;
   day=0;
   day_equity=0.0;
   halted=false;
   paper_lots=0.0;
   paper_price=0.0;
   paper_stop=0.0;
   paper_profit=0.0;
   paper_deals=0;
  }
//+------------------------------------------------------------------+
bool CState::Load(void)
  {
   if(!FileIsExist(m_file))
      return(false);
   int file=FileOpen(m_file,FILE_READ|FILE_BIN);
   if(file==INVALID_HANDLE)
      return(false);
   uchar bytes[];
   FileReadArray(file,bytes);
   FileClose(file);
   string words[];
   if(StringSplit(CharArrayToString(bytes,0,ArraySize(bytes),CP_UTF8),';',words)!=17 || words[0]!="1" || words[16]!="end")
      return(false);
   last_epoch=StringToInteger(words[1]);
   last_seq=StringToInteger(words[2]);
   decided_ms=StringToInteger(words[3]);
   expiry_ms=StringToInteger(words[4]);
   trailing=StringToDouble(words[5]);
   last_deal=StringToInteger(words[6]);
   day=StringToInteger(words[7]);
   day_equity=StringToDouble(words[8]);
   halted=(words[9]=="1");
   paper_lots=StringToDouble(words[10]);
   paper_price=StringToDouble(words[11]);
   paper_stop=StringToDouble(words[12]);
   paper_profit=StringToDouble(words[13]);
   paper_deals=StringToInteger(words[14]);
   return(true);
  }
//+------------------------------------------------------------------+
bool CState::Save(void) const
  {
   string text=StringFormat("1;%I64d;%I64d;%I64d;%I64d;%.17g;",last_epoch,last_seq,decided_ms,expiry_ms,trailing);
   text+=StringFormat("%I64d;%I64d;%.17g;%s;",last_deal,day,day_equity,halted ? "1" : "0");
   text+=StringFormat("%.17g;%.17g;%.17g;%.17g;%I64d;",paper_lots,paper_price,paper_stop,paper_profit,paper_deals);
   text+="0;end";
   uchar bytes[];
   int size=StringToCharArray(text,bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   int file=FileOpen(m_file+".new",FILE_WRITE|FILE_BIN);
   if(file==INVALID_HANDLE)
      return(false);
   FileWriteArray(file,bytes,0,size);
   FileClose(file);
   return(FileMove(m_file+".new",0,m_file,FILE_REWRITE));
  }
#endif
//+------------------------------------------------------------------+
