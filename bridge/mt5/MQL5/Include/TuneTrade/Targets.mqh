//+------------------------------------------------------------------+
//|                                                      Targets.mqh |
//|        Targets of a run, for the Strategy Tester (bridge/mt5/README.md)  |
//+------------------------------------------------------------------+
// The tester has no sockets. `tunetrade export-tester` writes what the server would have said, keyed on the open of the
// bar by the broker's clock, into the folder that all terminals share.
#ifndef TUNETRADE_TARGETS_MQH
#define TUNETRADE_TARGETS_MQH
#include <TuneTrade/Protocol.mqh>

#define TARGETS_HEADER "tunetrade-targets 2"
#define TARGETS_FIELDS 14
#define TARGETS_MOST   2000000

struct STarget
  {
   long              bar;           // open of the bar, broker's time, s
   SForecast         forecast;
   long              expiry;        // broker's time, s
  };
//+------------------------------------------------------------------+
class CTargets
  {
private:
   STarget           m_targets[];
   int               m_count;
   int               m_at;
   string            m_reason;

   bool              Read(const string line,STarget &target) const;

public:
                     CTargets(void);
   bool              Load(const string file,const string unique_id);
   bool              At(const datetime bar,STarget &target);
   int               Count(void) const { return(m_count); }
   string            Reason(void) const { return(m_reason); }
  };
//+------------------------------------------------------------------+
CTargets::CTargets(void)
  {
   m_count=0;
   m_at=0;
   m_reason="";
  }
//+------------------------------------------------------------------+
// bar,close,position,lots,lots_per_money,max_lots,stop,take_profit,trailing,resize,entry,decided,expiry,reason
bool CTargets::Read(const string line,STarget &target) const
  {
   string words[];
   if(StringSplit(line,',',words)!=TARGETS_FIELDS)
      return(false);
   ZeroMemory(target);
   target.bar=StringToInteger(words[0]);
   target.forecast.close_ref=StringToDouble(words[1]);
   target.forecast.position=StringToDouble(words[2]);
   target.forecast.lots=StringToDouble(words[3]);
   target.forecast.lots_per_money=StringToDouble(words[4]);
   target.forecast.max_lots=StringToDouble(words[5]);
   target.forecast.stop=StringToDouble(words[6]);
   target.forecast.take_profit=StringToDouble(words[7]);
   target.forecast.trailing=StringToDouble(words[8]);
   target.forecast.resize=(words[9]=="1");
   target.forecast.may_open=(words[10]=="1");
   target.forecast.decided=(datetime)StringToInteger(words[11]);
   target.expiry=StringToInteger(words[12]);
   target.forecast.reason=words[13];
   target.forecast.model_id="file";
   bool sized=(target.forecast.lots>=0.0 && target.forecast.lots_per_money>=0.0 && target.forecast.max_lots>=0.0);
   return(target.bar>0 && target.forecast.close_ref>0.0 && MathAbs(target.forecast.position)<=1.0 && sized);
  }
//+------------------------------------------------------------------+
bool CTargets::Load(const string file,const string unique_id)
  {
   int handle=FileOpen(file,FILE_READ|FILE_TXT|FILE_ANSI|FILE_COMMON|FILE_SHARE_READ,'\t',CP_UTF8);
   if(handle==INVALID_HANDLE)
     {
      m_reason="no file "+file+" in the common folder: make it by tunetrade export-tester";
      return(false);
     }
   string header=FileReadString(handle);
   if(header!=TARGETS_HEADER+" "+unique_id)
     {
      FileClose(handle);
      m_reason=file+" begins with '"+header+"', not with '"+TARGETS_HEADER+" "+unique_id+"'";
      return(false);
     }
   FileReadString(handle);               // names of the columns
   m_count=0;
   m_at=0;
   while(!FileIsEnding(handle) && m_count<TARGETS_MOST)
     {
      string line=FileReadString(handle);
      if(line=="")
         continue;
      ArrayResize(m_targets,m_count+1,4096);
      if(!Read(line,m_targets[m_count]) || (m_count>0 && m_targets[m_count].bar<=m_targets[m_count-1].bar))
        {
         m_reason=file+" line "+IntegerToString(m_count+3)+" is no target, or out of order";
         FileClose(handle);
         m_count=0;
         return(false);
        }
      m_count++;
     }
   FileClose(handle);
   return(true);
  }
//+------------------------------------------------------------------+
// The target decided at the close of the bar that opened then. Bars are asked for in order.
bool CTargets::At(const datetime bar,STarget &target)
  {
   while(m_at<m_count && m_targets[m_at].bar<(long)bar)
      m_at++;
   if(m_at>=m_count || m_targets[m_at].bar!=(long)bar)
      return(false);
   target=m_targets[m_at];
   return(true);
  }
#endif
//+------------------------------------------------------------------+
