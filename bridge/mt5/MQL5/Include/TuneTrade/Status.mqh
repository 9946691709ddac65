//+------------------------------------------------------------------+
//|                                                       Status.mqh |
//|      What the Expert Advisor says of itself, for other programs  |
//+------------------------------------------------------------------+
// A small file beside the state, so that `tunetrade doctor --live --terminal` can see what the chart's comment says.
#ifndef TUNETRADE_STATUS_MQH
#define TUNETRADE_STATUS_MQH
#include <TuneTrade/Clock.mqh>
#include <TuneTrade/Json.mqh>
#include <TuneTrade/Protocol.mqh>

#define STATUS_CHANGED_MS 250
#define STATUS_ALIVE_MS   10000

class CStatus
  {
private:
   string            m_file;
   string            m_host;
   uint              m_port;
   string            m_series;
   bool              m_dry_run;
   string            m_link;
   ulong             m_written_ms;

   void              Write(void) const;

public:
                     CStatus(void);
   void              Set(const string file,const string series,const string host,const uint port,const bool dry_run);
   void              Tell(const string link);
   void              Stop(void);
  };
//+------------------------------------------------------------------+
CStatus::CStatus(void)
  {
   Set("","","",0,true);
  }
//+------------------------------------------------------------------+
void CStatus::Set(const string file,const string series,const string host,const uint port,const bool dry_run)
  {
   m_file=file;
   m_series=series;
   m_host=host;
   m_port=port;
   m_dry_run=dry_run;
   m_link="";
   m_written_ms=0;
  }
//+------------------------------------------------------------------+
// To be called by the timer; writes when the link's words change, and now and then as a sign of life.
void CStatus::Tell(const string link)
  {
   ulong now=GetTickCount64();
   ulong due=(link!=m_link ? (ulong)STATUS_CHANGED_MS : (ulong)STATUS_ALIVE_MS);
   if(m_written_ms!=0 && now<m_written_ms+due)
      return;
   m_link=link;
   m_written_ms=now;
   Write();
  }
//+------------------------------------------------------------------+
void CStatus::Stop(void)
  {
   if(m_file=="")
      return;
   m_link="stopped";
   Write();
  }
//+------------------------------------------------------------------+
// Without it trading goes on, so that a failure is not told.
void CStatus::Write(void) const
  {
   CJsonWriter out;
   out.AddInteger("v",1);
   out.AddInteger("ts_ms",NowMs());
   out.AddString("client",PROTOCOL_CLIENT);
   out.AddString("series",m_series);
   out.AddString("host",m_host);
   out.AddInteger("port",(long)m_port);
   out.AddBool("dry_run",m_dry_run);
   out.AddString("link",m_link);
   uchar bytes[];
   int size=StringToCharArray(out.Text(),bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   int file=FileOpen(m_file+".new",FILE_WRITE|FILE_BIN);
   if(file==INVALID_HANDLE)
      return;
   FileWriteArray(file,bytes,0,size);
   FileClose(file);
   FileMove(m_file+".new",0,m_file,FILE_REWRITE);
  }
#endif
//+------------------------------------------------------------------+
