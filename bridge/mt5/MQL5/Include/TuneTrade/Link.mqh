//+------------------------------------------------------------------+
//|                                                         Link.mqh |
//|   The client's side of the dialogue: hello to forecast, and back |
//+------------------------------------------------------------------+
// Whatever is in doubt (a gap, another epoch, silence) ends in the same few steps: hello, backfill, snapshot.
#ifndef TUNETRADE_LINK_MQH
#define TUNETRADE_LINK_MQH
#include <TuneTrade/Clock.mqh>
#include <TuneTrade/Protocol.mqh>
#include <TuneTrade/State.mqh>
#include <TuneTrade/Zmtp.mqh>

#define LINK_ANSWER_MS   30000
#define LINK_HELLO_MS    5000
#define LINK_REFUSED_MS  10000
#define LINK_MOST_BARS   20000
#define LINK_LOOK_MS     1000
#define LINK_BACKOFF_MS  2000    // where connecting holds up the terminal

enum ENUM_LINK_STATE
  {
   LINK_DOWN=0,        // no connection
   LINK_GREETED=1,     // hello or proof is out
   LINK_FILLING=2,     // bars of the past are on their way
   LINK_LIVE=3,
   LINK_REFUSED=4      // the server does not want us; asked again later
  };

enum ENUM_LINK_EVENT
  {
   LINK_NOTHING=0,
   LINK_FORECAST=1,    // Forecast() is to be decided on and acknowledged
   LINK_CONFIRMED=2    // the server has the deal of Confirmed()
  };

struct SLinkRules
  {
   string            host;
   uint              port;
   string            secret;
   string            unique_id;
   string            model;
   string            symbol;
   ENUM_TIMEFRAMES   period;
   ENUM_BROKER_CLOCK clock;
   ulong             magic;
   bool              dry_run;
  };

// The account as it was at the last tick of a bar, which is what the backtest sizes by.
struct SMoment
  {
   datetime          bar;
   double            equity;
   double            balance;
   double            spread;
   double            conversion;
  };
//+------------------------------------------------------------------+
class CLink
  {
private:
   CZmtpDealer       m_dealer;
   SLinkRules        m_rules;
   ENUM_LINK_STATE   m_state;
   string            m_trouble;
   int               m_connection;
   long              m_epoch;
   long              m_seq_out;
   long              m_seq_in;
   bool              m_gap;
   string            m_nonce;
   string            m_challenge;
   string            m_model_id;
   int               m_history;
   long              m_from_ms;
   ulong             m_heartbeat_ms;
   ulong             m_next_beat;
   int               m_silent_beats;
   ulong             m_next_hello;
   ulong             m_next_look;
   ulong             m_bar_due;       // until then the terminal's history may still lack the bar that has closed
   ulong             m_retry;
   long              m_hello_seq;     // of the last hello or proof: answers to earlier ones are void
   long              m_waiting;       // seq of the message whose answer comes next; 0 for none
   long              m_bars_seq;      // of the last bars sent, until they are answered
   ulong             m_asked_ms;
   ulong             m_sent_us;
   MqlRates          m_fill[];
   int               m_fill_at;
   datetime          m_last_sent;     // open of the newest bar the server was sent
   SMoment           m_now;
   SMoment           m_before;
   double            m_lots_held;
   SForecast         m_forecast;
   long              m_exec_seq;
   ulong             m_exec_deal;
   ulong             m_exec_ms;
   ulong             m_confirmed;

   void              Begin(CJsonWriter &out,const string type,const long re);
   bool              Say(const string type,const CJsonWriter &out);
   void              Hello(const CState &state);
   void              Prove(void);
   void              Welcome(const CJson &json,const SHead &head);
   void              Backfill(void);
   void              SendFill(void);
   void              SendDue(void);
   void              AddAccount(CJsonWriter &out,const datetime opens);
   double            SpreadOf(const MqlRates &bar) const;
   bool              HistoryIsWhole(void) const;
   void              Beat(void);
   void              Resync(void);
   void              Trouble(const string text);
   ENUM_LINK_EVENT   OnMessage(const string frame,const CJson &json,const CState &state);
   ENUM_LINK_EVENT   OnForecast(const CJson &json,const SHead &head,const bool jumped);
   void              OnError(const CJson &json,const SHead &head);

public:
                     CLink(void);
   void              Start(const SLinkRules &rules,const string identity,const uint backoff_ms);
   void              Stop(void);
   void              Tick(const datetime bar,const double lots_held);
   ENUM_LINK_EVENT   Pump(const CState &state);
   void              Ack(const SForecast &forecast,const string code,const string text);
   bool              Exec(const SDeal &deal);
   bool              ExecPending(void) const { return(m_exec_seq!=0); }
   void              GetForecast(SForecast &forecast) const { forecast=m_forecast; }
   long              Epoch(void) const { return(m_epoch); }
   ulong             Confirmed(void) const { return(m_confirmed); }
   bool              IsLive(void) const { return(m_state==LINK_LIVE); }
   string            Status(void) const;
  };
//+------------------------------------------------------------------+
CLink::CLink(void)
  {
   m_state=LINK_DOWN;
   m_trouble="";
   m_connection=0;
   m_epoch=0;
   m_seq_out=0;
   m_seq_in=0;
   m_gap=false;
   m_nonce="";
   m_challenge="";
   m_model_id="";
   m_history=0;
   m_from_ms=0;
   m_heartbeat_ms=1000;
   m_next_beat=0;
   m_silent_beats=0;
   m_next_hello=0;
   m_next_look=0;
   m_bar_due=0;
   m_retry=0;
   m_hello_seq=0;
   m_waiting=0;
   m_bars_seq=0;
   m_asked_ms=0;
   m_sent_us=0;
   m_fill_at=0;
   m_last_sent=0;
   m_lots_held=0.0;
   m_exec_seq=0;
   m_exec_deal=0;
   m_exec_ms=0;
   m_confirmed=0;
   ZeroMemory(m_rules);
   ZeroMemory(m_now);
   ZeroMemory(m_before);
   ZeroMemory(m_forecast);
  }
//+------------------------------------------------------------------+
void CLink::Start(const SLinkRules &rules,const string identity,const uint backoff_ms)
  {
   m_rules=rules;
   m_dealer.SetBackoff(backoff_ms,(uint)MathMax((long)backoff_ms,(long)LINK_BACKOFF_MS));
   m_dealer.Open(rules.host,rules.port,"DEALER",identity);
  }
//+------------------------------------------------------------------+
void CLink::Stop(void)
  {
   m_dealer.Close("stopped");
   m_state=LINK_DOWN;
   m_waiting=0;
   m_exec_seq=0;
   m_last_sent=0;
   ZeroMemory(m_now);
   ZeroMemory(m_before);
  }
//+------------------------------------------------------------------+
void CLink::Trouble(const string text)
  {
   if(text!=m_trouble && text!="")
      Print("link: ",text);
   m_trouble=text;
  }
//+------------------------------------------------------------------+
string CLink::Status(void) const
  {
   switch(m_state)
     {
      case LINK_LIVE:
         return("live, model "+m_model_id+(m_gap ? ", after a gap" : ""));
      case LINK_FILLING:
         return("sending history, "+IntegerToString(m_fill_at)+" of "+IntegerToString(ArraySize(m_fill))+" bars");
      case LINK_GREETED:
         return("greeting");
      default:
         break;
     }
   return((m_state==LINK_REFUSED ? "refused: " : "down: ")+m_trouble);
  }
//+------------------------------------------------------------------+
//| Saying                                                           |
//+------------------------------------------------------------------+
void CLink::Begin(CJsonWriter &out,const string type,const long re)
  {
   m_seq_out++;
   BeginMessage(out,type,type=="hello" || type=="proof" ? 0 : m_epoch,m_seq_out,re);
  }
//+------------------------------------------------------------------+
bool CLink::Say(const string type,const CJsonWriter &out)
  {
   return(m_dealer.Send(type,out.Text()));
  }
//+------------------------------------------------------------------+
void CLink::Hello(const CState &state)
  {
   m_nonce=(m_rules.secret=="" ? "" : FreshNonce(m_rules.unique_id));
   m_state=LINK_GREETED;
   m_waiting=0;
   m_gap=false;
   m_exec_seq=0;
   m_next_hello=GetTickCount64()+LINK_HELLO_MS;
   bool hedging=(AccountInfoInteger(ACCOUNT_MARGIN_MODE)==ACCOUNT_MARGIN_MODE_RETAIL_HEDGING);
   int digits=(int)SymbolInfoInteger(m_rules.symbol,SYMBOL_DIGITS);
   CJsonWriter out;
   Begin(out,"hello",0);
   m_hello_seq=m_seq_out;
   out.AddRaw("versions","["+IntegerToString(PROTOCOL_VERSION)+"]");
   out.AddString("unique_id",m_rules.unique_id);
   out.AddString("model",m_rules.model);
   out.AddString("client",PROTOCOL_CLIENT);
   out.AddString("symbol",m_rules.symbol);
   out.AddString("feed",AccountInfoString(ACCOUNT_SERVER));
   out.AddInteger("tf_sec",PeriodSeconds(m_rules.period));
   out.AddInteger("digits",digits);
   out.AddNumber("point",SymbolInfoDouble(m_rules.symbol,SYMBOL_POINT),digits);
   out.AddNumber("lot_units",SymbolInfoDouble(m_rules.symbol,SYMBOL_TRADE_CONTRACT_SIZE),2);
   out.AddNumber("lot_min",SymbolInfoDouble(m_rules.symbol,SYMBOL_VOLUME_MIN),4);
   out.AddNumber("lot_step",SymbolInfoDouble(m_rules.symbol,SYMBOL_VOLUME_STEP),4);
   out.AddNumber("lot_max",SymbolInfoDouble(m_rules.symbol,SYMBOL_VOLUME_MAX),4);
   out.AddString("account",hedging ? "hedging" : "netting");
   out.AddString("currency",AccountInfoString(ACCOUNT_CURRENCY));
   out.AddBool("is_demo",AccountInfoInteger(ACCOUNT_TRADE_MODE)!=ACCOUNT_TRADE_MODE_REAL);
   out.AddInteger("magic",(long)m_rules.magic);
   out.AddInteger("utc_offset_sec",OffsetNow());
   out.AddInteger("last_epoch",state.last_epoch);
   out.AddInteger("last_seq",state.last_seq);
   out.AddString("nonce",m_nonce);
   Say("hello",out);
  }
//+------------------------------------------------------------------+
void CLink::Prove(void)
  {
   CJsonWriter out;
   Begin(out,"proof",0);
   m_hello_seq=m_seq_out;
   out.AddString("proof",ProofOf("client",m_challenge,m_nonce,m_rules.secret));
   Say("proof",out);
  }
//+------------------------------------------------------------------+
void CLink::Beat(void)
  {
   ulong now=GetTickCount64();
   if(now<m_next_beat)
      return;
   if(m_silent_beats>=3)
     {
      Trouble("the server does not answer");
      m_dealer.Close("the server does not answer");
      m_state=LINK_DOWN;
      return;
     }
   m_next_beat=now+m_heartbeat_ms;
   m_silent_beats++;
   CJsonWriter out;
   Begin(out,"hb",0);
   Say("hb",out);
  }
//+------------------------------------------------------------------+
void CLink::Resync(void)
  {
   CJsonWriter out;
   Begin(out,"resync",0);
   if(Say("resync",out))
     {
      m_waiting=m_seq_out;
      m_asked_ms=GetTickCount64();
     }
  }
//+------------------------------------------------------------------+
void CLink::Ack(const SForecast &forecast,const string code,const string text)
  {
   CJsonWriter out;
   Begin(out,"ack",forecast.seq);
   out.AddString("unique_id",m_rules.unique_id);
   out.AddInteger("bar_time_ms",forecast.bar_time_ms);
   out.AddString("code",code);
   out.AddString("text",Shortened(text,300));
   out.AddBool("dry_run",m_rules.dry_run);
   out.AddNumber("latency_ms",(double)(GetMicrosecondCount()-m_sent_us)/1000.0,3);
   Say("ack",out);
  }
//+------------------------------------------------------------------+
bool CLink::Exec(const SDeal &deal)
  {
   int digits=(int)SymbolInfoInteger(m_rules.symbol,SYMBOL_DIGITS);
   CJsonWriter out;
   Begin(out,"exec",0);
   out.AddString("unique_id",m_rules.unique_id);
   out.AddInteger("bar_time_ms",deal.bar_time_ms);
   out.AddInteger("deal",(long)deal.deal);
   out.AddInteger("order",(long)deal.order);
   out.AddInteger("ticket",(long)deal.ticket);
   out.AddString("side",deal.buy ? "buy" : "sell");
   out.AddString("entry",deal.entry);
   out.AddNumber("lots",deal.lots,8);
   out.AddNumber("price",deal.price,digits);
   if(deal.requested>0.0)
      out.AddNumber("requested",deal.requested,digits);
   else
      out.AddNull("requested");
   out.AddNumber("slippage",NormalizeDouble(deal.slippage,3),3);
   out.AddNumber("commission",deal.commission,4);
   out.AddNumber("swap",deal.swap,4);
   out.AddNumber("profit",deal.profit,4);
   out.AddInteger("time_ms",deal.time_ms);
   out.AddNumber("latency_ms",deal.latency_ms,3);
   out.AddString("reason",deal.reason);
   out.AddBool("dry_run",m_rules.dry_run);
   if(!Say("exec",out))
      return(false);
   m_exec_seq=m_seq_out;
   m_exec_deal=deal.deal;
   m_exec_ms=GetTickCount64();
   return(true);
  }
//+------------------------------------------------------------------+
//| Bars                                                             |
//+------------------------------------------------------------------+
void CLink::Tick(const datetime bar,const double lots_held)
  {
   if(bar!=m_now.bar)
     {
      m_before=m_now;
      m_next_look=0;
      m_bar_due=GetTickCount64()+LINK_LOOK_MS;
     }
   m_now.bar=bar;
   m_now.equity=AccountInfoDouble(ACCOUNT_EQUITY);
   m_now.balance=AccountInfoDouble(ACCOUNT_BALANCE);
   double point=SymbolInfoDouble(m_rules.symbol,SYMBOL_POINT);
   m_now.spread=MathRound((SymbolInfoDouble(m_rules.symbol,SYMBOL_ASK)-SymbolInfoDouble(m_rules.symbol,SYMBOL_BID))/point*1e6)/1e6;
   double tick=SymbolInfoDouble(m_rules.symbol,SYMBOL_TRADE_TICK_SIZE)*SymbolInfoDouble(m_rules.symbol,SYMBOL_TRADE_CONTRACT_SIZE);
   m_now.conversion=(tick>0.0 ? SymbolInfoDouble(m_rules.symbol,SYMBOL_TRADE_TICK_VALUE)/tick : 1.0);
   m_lots_held=lots_held;
  }
//+------------------------------------------------------------------+
double CLink::SpreadOf(const MqlRates &bar) const
  {
   if(bar.time==m_before.bar)
      return(m_before.spread);
   return(bar.spread>0 ? (double)bar.spread : -1.0);
  }
//+------------------------------------------------------------------+
void CLink::AddAccount(CJsonWriter &out,const datetime opens)
  {
   SMoment moment=(opens==m_before.bar ? m_before : m_now);
   if(moment.conversion<=0.0)
     {
      Tick(m_now.bar,m_lots_held);
      moment=m_now;
     }
   double conversion=NormalizeDouble(moment.conversion,10);
   out.AddInteger("broker_time",(long)opens);
   out.AddNumber("equity",moment.equity,8);
   out.AddNumber("balance",moment.balance,8);
   out.AddNumber("position",m_lots_held,8);
   out.AddNumber("conversion",conversion>0.0 ? conversion : 1.0,10);
  }
//+------------------------------------------------------------------+
// A terminal that was without its broker for a while shows a bar as closed that lacks the ticks of that while.
bool CLink::HistoryIsWhole(void) const
  {
   return(SeriesInfoInteger(m_rules.symbol,m_rules.period,SERIES_SYNCHRONIZED)!=0);
  }
//+------------------------------------------------------------------+
// All closed bars the server needs, in as many messages as it takes; the first of them begins anew.
void CLink::Backfill(void)
  {
   int count=m_history;
   if(m_from_ms>0)
     {
      long since=(NowMs()-m_from_ms)/1000/PeriodSeconds(m_rules.period)+2;
      count=(int)MathMax((long)count,MathMin(since,(long)LINK_MOST_BARS));
     }
   count=MathMin(MathMax(count,1),MathMin(LINK_MOST_BARS,Bars(m_rules.symbol,m_rules.period)-1));
   m_state=LINK_FILLING;
   m_fill_at=0;
   if(count<1 || !HistoryIsWhole() || CopyRates(m_rules.symbol,m_rules.period,1,count,m_fill)<1)
     {
      ArrayResize(m_fill,0);
      m_retry=GetTickCount64()+1000;     // the terminal is still loading its history
      return;
     }
   m_retry=0;
   SendFill();
  }
//+------------------------------------------------------------------+
void CLink::SendFill(void)
  {
   int total=ArraySize(m_fill);
   int count=MathMin(PROTOCOL_MAX_BARS,total-m_fill_at);
   int digits=(int)SymbolInfoInteger(m_rules.symbol,SYMBOL_DIGITS);
   string times="";
   string opens="";
   string highs="";
   string lows="";
   string closes="";
   string volumes="";
   string spreads="";
   for(int i=m_fill_at; i<m_fill_at+count; i++)
     {
      string comma=(i>m_fill_at ? "," : "");
      times+=comma+IntegerToString(CloseMs(m_fill[i].time,m_rules.period,m_rules.clock));
      opens+=comma+JsonNumber(m_fill[i].open,digits);
      highs+=comma+JsonNumber(m_fill[i].high,digits);
      lows+=comma+JsonNumber(m_fill[i].low,digits);
      closes+=comma+JsonNumber(m_fill[i].close,digits);
      volumes+=comma+IntegerToString(m_fill[i].tick_volume);
      spreads+=comma+JsonNumber(SpreadOf(m_fill[i]),6);
     }
   datetime last=m_fill[m_fill_at+count-1].time;
   bool first=(m_state==LINK_FILLING && m_fill_at==0);
   long before=(m_fill_at>0 ? CloseMs(m_fill[m_fill_at-1].time,m_rules.period,m_rules.clock) : (first ? 0 : CloseMs(m_last_sent,m_rules.period,m_rules.clock)));
   CJsonWriter out;
   Begin(out,"bars",0);
   out.AddString("unique_id",m_rules.unique_id);
   out.AddBool("restart",first);
   out.AddBool("more",m_fill_at+count<total);
   out.AddInteger("prev_ms",before);
   out.AddRaw("times_ms","["+times+"]");
   out.AddRaw("opens","["+opens+"]");
   out.AddRaw("highs","["+highs+"]");
   out.AddRaw("lows","["+lows+"]");
   out.AddRaw("closes","["+closes+"]");
   out.AddRaw("volumes","["+volumes+"]");
   out.AddRaw("spreads","["+spreads+"]");
   AddAccount(out,last);
   m_sent_us=GetMicrosecondCount();
   if(!Say("bars",out))
      return;
   m_waiting=m_seq_out;
   m_bars_seq=m_seq_out;
   m_asked_ms=GetTickCount64();
   m_fill_at+=count;
   m_last_sent=last;
  }
//+------------------------------------------------------------------+
// The bars that have closed since the last one sent; usually one.
void CLink::SendDue(void)
  {
   MqlRates newest[];
   if(!HistoryIsWhole() || CopyRates(m_rules.symbol,m_rules.period,1,1,newest)!=1 || newest[0].time<=m_last_sent)
      return;
   MqlRates due[];
   int count=CopyRates(m_rules.symbol,m_rules.period,m_last_sent,newest[0].time,due);
   if(count<2 || due[0].time!=m_last_sent)
     {
      Backfill();                        // the history has changed under us
      return;
     }
   if(count>2)
     {
      ArrayResize(m_fill,count-1);
      for(int i=1; i<count; i++)
         m_fill[i-1]=due[i];
      m_fill_at=0;
      SendFill();
      return;
     }
   MqlRates bar=due[1];
   int digits=(int)SymbolInfoInteger(m_rules.symbol,SYMBOL_DIGITS);
   CJsonWriter out;
   Begin(out,"bar",0);
   out.AddString("unique_id",m_rules.unique_id);
   out.AddInteger("prev_ms",CloseMs(m_last_sent,m_rules.period,m_rules.clock));
   out.AddInteger("time_ms",CloseMs(bar.time,m_rules.period,m_rules.clock));
   out.AddNumber("open",bar.open,digits);
   out.AddNumber("high",bar.high,digits);
   out.AddNumber("low",bar.low,digits);
   out.AddNumber("close",bar.close,digits);
   out.AddInteger("volume",bar.tick_volume);
   out.AddNumber("spread",SpreadOf(bar),6);
   AddAccount(out,bar.time);
   m_sent_us=GetMicrosecondCount();
   if(!Say("bar",out))
      return;
   ArrayResize(m_fill,0);
   m_fill_at=0;
   m_waiting=m_seq_out;
   m_bars_seq=m_seq_out;
   m_asked_ms=GetTickCount64();
   m_last_sent=bar.time;
  }
//+------------------------------------------------------------------+
//| Hearing                                                          |
//+------------------------------------------------------------------+
// To be called by the timer until it says LINK_NOTHING.
ENUM_LINK_EVENT CLink::Pump(const CState &state)
  {
   bool connected=m_dealer.Pump();
   ulong now=GetTickCount64();
   if(!connected)
     {
      if(m_state!=LINK_DOWN)
         m_state=LINK_DOWN;
      Trouble(m_dealer.Reason());
      return(LINK_NOTHING);
     }
   if(!m_dealer.IsOpen())
      return(LINK_NOTHING);
   if(m_dealer.Connections()!=m_connection)
     {
      m_connection=m_dealer.Connections();
      m_silent_beats=0;
      m_next_beat=now+m_heartbeat_ms;
      Hello(state);
     }
   while(m_dealer.Messages()>0)
     {
      uchar head[];
      uchar body[];
      int head_size=0;
      int body_size=0;
      bool two=m_dealer.TakeFrame(head,head_size);
      bool three=(two && m_dealer.TakeFrame(body,body_size));
      if(three)
         m_dealer.SkipMessage();
      CJson json;
      if(!two || three || !json.Parse(body,body_size))
        {
         Trouble("a message that cannot be read: "+json.Reason());
         continue;
        }
      ENUM_LINK_EVENT event=OnMessage(CharArrayToString(head,0,head_size,CP_UTF8),json,state);
      if(event!=LINK_NOTHING)
         return(event);
     }
   if(m_state==LINK_DOWN)
      m_state=LINK_GREETED;
   if((m_state==LINK_GREETED || m_state==LINK_REFUSED) && now>=m_next_hello)
      Hello(state);
   if(m_waiting!=0 && now>m_asked_ms+LINK_ANSWER_MS)
     {
      Trouble("no answer for "+IntegerToString(LINK_ANSWER_MS/1000)+" s");
      Hello(state);
     }
   if(m_exec_seq!=0 && now>m_exec_ms+LINK_HELLO_MS)
      m_exec_seq=0;                      // told again
   if(m_state==LINK_FILLING && m_waiting==0 && m_retry!=0 && now>=m_retry)
      Backfill();
   if(m_state==LINK_LIVE && m_waiting==0 && now>=m_next_look && now>=m_retry)
     {
      m_next_look=(now<m_bar_due ? now : now+LINK_LOOK_MS);
      SendDue();
     }
   Beat();
   return(LINK_NOTHING);
  }
//+------------------------------------------------------------------+
ENUM_LINK_EVENT CLink::OnMessage(const string frame,const CJson &json,const CState &state)
  {
   SHead head;
   ZeroMemory(head);
   if(!ReadHead(json,frame,head))
     {
      if(frame=="error")
         OnError(json,head);
      return(LINK_NOTHING);
     }
   // While its models load a server keeps hellos waiting, and then answers all that were said meanwhile.
   if((frame=="challenge" || frame=="welcome") && head.re!=m_hello_seq)
      return(LINK_NOTHING);
   if(frame=="challenge")
     {
      if(m_rules.secret=="")
        {
         Trouble("the server asks for a secret, and the inputs have none");
         m_state=LINK_REFUSED;
         m_next_hello=GetTickCount64()+LINK_REFUSED_MS;
        }
      else
         if(json.GetString("nonce",m_challenge))
            Prove();
      return(LINK_NOTHING);
     }
   if(frame=="welcome")
     {
      Welcome(json,head);
      return(LINK_NOTHING);
     }
   bool session=(m_state==LINK_FILLING || m_state==LINK_LIVE);
   bool other=(session && head.epoch!=m_epoch);
   if(frame=="hb")
      m_silent_beats=0;
   if(other)
     {
      if(frame=="forecast" || frame=="snapshot")
         if(ReadForecast(json,head,m_forecast))
            Ack(m_forecast,"STALE","of another run of the server");
      Trouble("the server was restarted");
      Hello(state);
      return(LINK_NOTHING);
     }
   bool answer=(frame=="forecast" || frame=="snapshot" || frame=="need_bars");
   if(answer && head.re==m_bars_seq)
      m_bars_seq=0;
   bool jumped=false;
   if(session && head.seq>0)
     {
      if(head.seq<=m_seq_in)
        {
         if((frame=="forecast" || frame=="snapshot") && ReadForecast(json,head,m_forecast))
            Ack(m_forecast,"DUP","sequence "+IntegerToString(head.seq)+" came twice");
         return(LINK_NOTHING);
        }
      jumped=(head.seq>m_seq_in+1);
      m_seq_in=head.seq;
     }
   if(head.re==m_waiting && frame!="hb" && frame!="ok")
      m_waiting=0;
   if(frame=="error")
     {
      OnError(json,head);
      if(m_state==LINK_DOWN)
         Hello(state);
     }
   if(frame=="ok" && head.re==m_exec_seq && m_exec_seq!=0)
     {
      m_exec_seq=0;
      m_confirmed=m_exec_deal;
      if(jumped)
         Resync();
      m_gap=m_gap || jumped;
      return(LINK_CONFIRMED);
     }
   if(session && answer)
     {
      if(frame!="need_bars")
         return(OnForecast(json,head,jumped));
      if(m_fill_at<ArraySize(m_fill))
         SendFill();
      else
         m_state=LINK_LIVE;
     }
   if(session && jumped)
     {
      m_gap=true;                        // what was lost may be the very answer waited for
      Resync();
     }
   return(LINK_NOTHING);
  }
//+------------------------------------------------------------------+
ENUM_LINK_EVENT CLink::OnForecast(const CJson &json,const SHead &head,const bool jumped)
  {
   if(!ReadForecast(json,head,m_forecast))
     {
      Trouble("a forecast without all its fields");
      return(LINK_NOTHING);
     }
   if(m_fill_at<ArraySize(m_fill))
     {
      SendFill();                        // of a bar of the past
      return(LINK_NOTHING);
     }
   m_state=LINK_LIVE;
   Trouble("");
   if(head.type=="snapshot")
      m_gap=false;
   else
      if(jumped || m_gap)
        {
         m_gap=true;
         Ack(m_forecast,"GAP","a message before it was lost");
         if(m_waiting==0)                // else it has been asked for already
            Resync();
         return(LINK_NOTHING);
        }
   return(LINK_FORECAST);
  }
//+------------------------------------------------------------------+
void CLink::Welcome(const CJson &json,const SHead &head)
  {
   bool accepted=false;
   string reason="";
   string proof="";
   long history=0;
   long beat=0;
   bool whole=json.GetBool("accepted",accepted) && json.GetString("reason",reason) && json.GetString("proof",proof);
   whole=whole && json.GetInteger("history",history) && json.GetInteger("heartbeat_ms",beat);
   whole=whole && json.GetInteger("from_ms",m_from_ms) && json.GetString("model_id",m_model_id);
   bool trusted=(m_rules.secret=="" || proof==ProofOf("server",m_challenge,m_nonce,m_rules.secret));
   if(!whole || !accepted || !trusted)
     {
      m_state=LINK_REFUSED;
      m_next_hello=GetTickCount64()+LINK_REFUSED_MS;
      Trouble(!whole ? "a welcome without all its fields" : (!accepted ? reason : "the server does not know the secret"));
      return;
     }
   m_epoch=head.epoch;
   m_seq_in=head.seq;
   m_history=(int)MathMin(history,(long)LINK_MOST_BARS);
   m_heartbeat_ms=(ulong)MathMax((long)100,MathMin(beat,(long)60000));
   Backfill();
  }
//+------------------------------------------------------------------+
void CLink::OnError(const CJson &json,const SHead &head)
  {
   string code="";
   string text="";
   if(!json.GetString("code",code) || !json.GetString("text",text))
      return;
   Trouble("the server says "+code+": "+text);
   if(head.re==m_exec_seq)
      m_exec_seq=0;
   // Bars that came after a later message were not taken; those that came twice were.
   bool refused=(code=="sequence" && head.re==m_bars_seq && m_bars_seq!=0);
   if(refused || code=="gap" || code=="order" || code=="conflict")
     {
      if(m_state==LINK_FILLING || m_state==LINK_LIVE)
         Backfill();
      return;
     }
   if(code=="session" || code=="epoch")
     {
      m_state=LINK_DOWN;                 // greeted again by whoever called
      return;
     }
   if(code=="busy" || code=="internal")
     {
      m_retry=GetTickCount64()+1000;
      m_state=LINK_FILLING;              // the bar was not taken
      return;
     }
   if(code=="auth" || code=="version" || code=="series")
     {
      m_state=LINK_REFUSED;
      m_next_hello=GetTickCount64()+LINK_REFUSED_MS;
     }
  }
#endif
//+------------------------------------------------------------------+
