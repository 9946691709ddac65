//+------------------------------------------------------------------+
//|                                                    TuneTrade.mq5 |
//|      Trades the forecasts of `tunetrade serve`, behind guards    |
//+------------------------------------------------------------------+
#property copyright "TuneTrade, GPL-3.0-or-later"
#property version   "1.00"
#property description "Sends closed bars to tunetrade serve and trades the targets it answers with."
#property description "Dry run on demo accounts unless the inputs say otherwise."
#include <TuneTrade/Clock.mqh>
#include <TuneTrade/Execution.mqh>
#include <TuneTrade/Guards.mqh>
#include <TuneTrade/Link.mqh>
#include <TuneTrade/State.mqh>
#include <TuneTrade/Status.mqh>
#include <TuneTrade/Targets.mqh>

input group "Connection"
input string            InpHost="127.0.0.1";             // Server (allow it in Tools > Options > Expert Advisors)
input uint              InpPort=5757;                    // Port
input string            InpSecret="";                    // Secret, as given to tunetrade serve
input string            InpSeries="";                    // Series of the model, empty: this chart's
input string            InpModel="";                     // Model, where a series has several
input ENUM_BROKER_CLOCK InpClock=CLOCK_NEW_YORK;         // Daylight saving of the broker's clock
input int               InpTimerMs=20;                   // Timer, ms
input uint              InpBackoffMs=1000;               // First wait before connecting again, ms
input group "Trading"
input bool              InpDryRun=true;                  // Dry run: show orders, send none
input bool              InpAllowReal=false;              // Allow real money
input long              InpMagic=20240101;               // Magic number
input ENUM_SIZING       InpSizing=SIZING_FORECAST;       // Size
input double            InpLots=0.01;                    // Fixed lots
input double            InpRiskPercent=0.5;              // Percent of equity lost at the stop
input double            InpMaxLots=1.0;                  // Most lots, 0: the broker's limit
input group "Guards"
input bool              InpKill=false;                   // Kill switch (or a file TuneTrade.kill)
input bool              InpKillCloses=false;             // The kill switch also closes
input int               InpMaxSpread=30;                 // Most spread to open, points, 0: any
input int               InpMaxAge=120;                   // Most seconds from a bar's close to an entry, 0: any
input double            InpFeedPoints=1.0;               // Most the server's close may differ from ours, points
input double            InpDailyLoss=2.0;                // Daily loss that ends the day, percent, 0: none
input int               InpMaxPositions=5;               // Most positions with this magic number, 0: any
input string            InpHours="";                     // Hours to open in, 08:00-20:00, broker's clock, empty: all
input string            InpFridayClose="21:30";          // Flat from the bar that goes beyond it on Fridays, empty: never
input bool              InpStopAlways=true;              // No position without a stop loss
input int               InpDefaultStop=0;                // Stop loss where a target has none, points, 0: refuse
input group "Strategy Tester"
input string            InpTargets="";                   // File of targets in the common folder, empty: by the series

#define EXPIRY_GRACE_MS 10000
#define RETRY_MS        5000

CLink        g_link;
CState       g_state;
CStatus      g_status;
CGuards      g_guards;
CExecution   g_execution;
CTargets     g_targets;
bool         g_tester=false;
string       g_series="";
datetime     g_bar=0;
ulong        g_bar_ms=0;
ulong        g_closed_ms=0;     // close of the bar before it, on the clock that expiries are on
double       g_bid=0.0;         // of the last tick
double       g_ask=0.0;
double       g_equity=0.0;      // after it; as a bar begins, that of the close before
double       g_decided_on=0.0;  // equity of the last close
double       g_known=0.0;       // lots held when last looked at
int          g_stopped=0;       // side that was stopped since this bar opened
datetime     g_stop_bar=0;      // the bar in which something was stopped before
bool         g_deals_due=true;
ulong        g_next_deals=0;
ulong        g_next_close=0;
string       g_last="nothing decided yet";
string       g_shown="";
//+------------------------------------------------------------------+
string PeriodName(void)
  {
   int minutes=PeriodSeconds(_Period)/60;
   if(minutes%10080==0)
      return("W1");
   if(minutes%1440==0)
      return("D"+IntegerToString(minutes/1440));
   if(minutes%60==0)
      return("H"+IntegerToString(minutes/60));
   return("M"+IntegerToString(minutes));
  }
//+------------------------------------------------------------------+
bool CheckInputs(void)
  {
   string wrong="";
   if(InpTimerMs<1 || InpTimerMs>1000)
      wrong="the timer must be 1 to 1000 ms";
   if(InpMagic<0)
      wrong="the magic number must not be negative";
   if(!ValidSpan(InpHours))
      wrong="hours read 08:00-20:00";
   if(InpFridayClose!="" && MinuteOfDay(InpFridayClose)<0)
      wrong="the Friday close reads 21:30";
   if(InpSecret!="" && StringLen(InpSecret)<16)
      wrong="a secret has 16 characters at least";
   if(InpSizing==SIZING_RISK && (InpRiskPercent<=0.0 || InpRiskPercent>10.0))
      wrong="risk must be above 0 and at most 10 percent";
   if(wrong!="")
      Print("inputs: ",wrong);
   return(wrong=="");
  }
//+------------------------------------------------------------------+
int OnInit(void)
  {
   if(!CheckInputs())
      return(INIT_PARAMETERS_INCORRECT);
   g_tester=(MQLInfoInteger(MQL_TESTER)!=0);
   g_series=(InpSeries!="" ? InpSeries : _Symbol+"-"+PeriodName());
   MathSrand((int)(GetTickCount64()&0x7FFFFFFF));
   SGuardRules rules;
   rules.dry_run=InpDryRun && !g_tester;
   rules.allow_real=InpAllowReal;
   rules.kill=InpKill;
   rules.feed_points=InpFeedPoints;
   rules.max_spread=InpMaxSpread;
   rules.max_age=InpMaxAge;
   rules.daily_loss=InpDailyLoss;
   rules.max_positions=InpMaxPositions;
   rules.hours=InpHours;
   rules.friday_close=InpFridayClose;
   rules.stop_always=InpStopAlways;
   rules.default_stop=InpDefaultStop;
   g_guards.Set(rules,_Symbol,(ulong)InpMagic);
   g_execution.Set(_Symbol,(ulong)InpMagic,rules.dry_run,InpSizing,InpLots,InpRiskPercent,InpMaxLots,InpDefaultStop);
   string name=_Symbol+"-"+PeriodName()+"-"+IntegerToString(InpMagic);
   g_state.SetFile("TuneTrade\\"+name+(rules.dry_run ? ".dry" : "")+".state");
   if(g_tester)
     {
      string file=(InpTargets!="" ? InpTargets : "TuneTrade\\"+g_series+".csv");
      if(!g_targets.Load(file,g_series))
        {
         Print(g_targets.Reason());
         return(INIT_FAILED);
        }
      Print(g_targets.Count()," targets of ",file);
      return(INIT_SUCCEEDED);
     }
   if(!g_state.Load())
      Print("no state of an earlier run");
   SLinkRules link;
   link.host=InpHost;
   link.port=InpPort;
   link.secret=InpSecret;
   link.unique_id=g_series;
   link.model=InpModel;
   link.symbol=_Symbol;
   link.period=_Period;
   link.clock=InpClock;
   link.magic=(ulong)InpMagic;
   link.dry_run=rules.dry_run;
   g_status.Set("TuneTrade\\"+name+".status",g_series,InpHost,InpPort,rules.dry_run);
   g_link.Start(link,"ea-"+IntegerToString(AccountInfoInteger(ACCOUNT_LOGIN))+"-"+name,InpBackoffMs);
   if(!EventSetMillisecondTimer(InpTimerMs))
      return(INIT_FAILED);
   return(INIT_SUCCEEDED);
  }
//+------------------------------------------------------------------+
void OnDeinit(const int reason)
  {
   EventKillTimer();
   g_link.Stop();
   g_bar=0;
   g_equity=0.0;
   g_known=0.0;
   g_stopped=0;
   g_stop_bar=0;
   g_shown="";
   if(!g_tester)
     {
      g_state.Save();
      g_status.Stop();
     }
   Comment("");
  }
//+------------------------------------------------------------------+
// What is held became less without an order of ours: a stop, a profit or a stop-out.
void LookForStops(void)
  {
   double held=g_execution.Held(g_state);
   if(g_known!=0.0 && (held*g_known<=0.0 || MathAbs(held)<MathAbs(g_known)-1e-9))
      g_stopped=(g_known>0.0 ? 1 : -1);
   g_known=held;
  }
//+------------------------------------------------------------------+
// Close of the bar that opens then, ms: in UTC, or as a file of targets has it, by the broker's clock.
long ClosesMs(const datetime opens)
  {
   return(g_tester ? ((long)opens+PeriodSeconds(_Period))*1000 : CloseMs(opens,_Period,InpClock));
  }
//+------------------------------------------------------------------+
//| Deciding                                                         |
//+------------------------------------------------------------------+
string Closed(const bool done,const string what)
  {
   g_deals_due=true;
   g_last=(done ? what : g_execution.Failure());
   return(done ? "TAKEN" : "FAILED");
  }
//+------------------------------------------------------------------+
string Guarded(const SForecast &forecast,const double held)
  {
   string code="GUARD:"+g_guards.Rule();
   g_last=g_guards.Text();
   if(held==0.0)
      return(code);
   if(!g_execution.CloseAll("guard",forecast.bar_time_ms,g_state))
      g_last+="; "+g_execution.Failure();
   else
      g_last+="; what was held is closed";
   g_deals_due=true;
   return(code);
  }
//+------------------------------------------------------------------+
// Orders for a forecast of the bar that closed last, if nothing forbids them. What was done, as ack says it.
string Decide(const SForecast &forecast,const MqlRates &bar)
  {
   datetime closed=(datetime)((long)bar.time+PeriodSeconds(_Period));
   if(g_guards.Forbidden(forecast,bar.close))
     {
      g_last=g_guards.Text();
      return("GUARD:"+g_guards.Rule());
     }
   // Written before any order: after a crash in between, an order is missed, never doubled.
   g_state.decided_ms=forecast.bar_time_ms;
   g_state.expiry_ms=forecast.expiry_ms;
   g_state.last_epoch=forecast.epoch;
   g_state.last_seq=forecast.seq;
   if(!g_tester && !g_state.Save())
     {
      g_last="the state cannot be written, so nothing is traded";
      return("GUARD:state");
     }
   double held=g_execution.Held(g_state);
   int wanted=(forecast.position>0.0 ? 1 : (forecast.position<0.0 ? -1 : 0));
   if(wanted==0)
     {
      g_last=forecast.reason;
      if(held==0.0)
         return("NOOP");
      return(Closed(g_execution.CloseAll("signal",forecast.bar_time_ms,g_state),forecast.reason));
     }
   bool same=(held*wanted>0.0);
   // What a stop has closed since the forecast was made is not opened again on it.
   bool may_open=(forecast.may_open && wanted!=g_stopped && !(forecast.decided>0 && forecast.decided<g_stop_bar));
   if(same && g_guards.NearWeekend())
     {
      g_guards.NoEntry(forecast,closed,g_state,false);
      return(Guarded(forecast,held));
     }
   double lots=g_execution.LotsFor(forecast,g_decided_on);
   double change=lots;
   if(same)
     {
      change=g_execution.Floored(MathAbs(lots-MathAbs(held)));
      g_last="held: "+forecast.reason;
      if(!forecast.resize || lots==0.0 || change==0.0)
         return("NOOP");
      if(lots<MathAbs(held))
         return(Closed(g_execution.Reduce(change,forecast,g_state),forecast.reason));
     }
   if(change==0.0 || !may_open)
     {
      g_last=(may_open ? "too small to open: "+forecast.reason : (forecast.may_open ? "stopped just now; only a later forecast opens again" : "no entry now: "+forecast.reason));
      if(held==0.0 || same)
         return("NOOP");
      return(Closed(g_execution.CloseAll("signal",forecast.bar_time_ms,g_state),g_last));
     }
   bool hedging=(AccountInfoInteger(ACCOUNT_MARGIN_MODE)==ACCOUNT_MARGIN_MODE_RETAIL_HEDGING);
   bool adds=(held==0.0 || (same && hedging));
   if(g_guards.NoEntry(forecast,closed,g_state,adds))
      return(Guarded(forecast,same ? 0.0 : held));
   return(Closed(g_execution.Open(wanted,change,forecast,"signal",g_state),forecast.reason));
  }
//+------------------------------------------------------------------+
string Judge(const SForecast &forecast)
  {
   MqlRates last[];
   g_last="";
   if(CopyRates(_Symbol,_Period,1,1,last)!=1)
     {
      g_last="the terminal has no history";
      return("STALE");
     }
   if(forecast.bar_time_ms<=g_state.decided_ms)
     {
      g_last="decided on already";
      return("DUP");
     }
   if(forecast.bar_time_ms!=CloseMs(last[0].time,_Period,InpClock))
     {
      g_last="not of the bar that closed last";
      return("STALE");
     }
   // After a hole in the market its first bar stands for the one that should have come.
   long late=MathMax((long)0,UtcOf(g_bar,InpClock)*1000-forecast.bar_time_ms);
   if(NowMs()>forecast.valid_until_ms+late)
     {
      g_last="its time is over";
      return("STALE");
     }
   LookForStops();
   string code=Decide(forecast,last[0]);
   g_known=g_execution.Held(g_state);
   return(code);
  }
//+------------------------------------------------------------------+
//| What happens without a forecast                                  |
//+------------------------------------------------------------------+
void CloseBecause(const string reason,const string text)
  {
   if(g_execution.Held(g_state)==0.0 || GetTickCount64()<g_next_close)
      return;
   g_next_close=GetTickCount64()+RETRY_MS;
   if(g_execution.CloseAll(reason,0,g_state))
      Print("closed: ",text);
   else
      Print(text,", but ",g_execution.Failure());
   g_known=g_execution.Held(g_state);
   g_deals_due=true;
  }
//+------------------------------------------------------------------+
void Watch(void)
  {
   g_guards.NewDay(g_state);
   if(g_guards.LostTooMuch(g_state))
      Print("the daily loss is reached: nothing is opened before tomorrow");
   if(g_guards.Killed())
     {
      if(InpKillCloses)
         CloseBecause("guard","the kill switch is on");
      return;
     }
   if(!InpAllowReal && !InpDryRun && AccountInfoInteger(ACCOUNT_TRADE_MODE)==ACCOUNT_TRADE_MODE_REAL)
      return;
   if(g_state.halted)
      CloseBecause("guard","the daily loss is reached");
   if(g_guards.NearWeekend())
      CloseBecause("guard","the weekend is near");
   // The forecast of the bar that has just closed may still renew the target.
   if(g_state.expiry_ms>0 && g_closed_ms>=(ulong)g_state.expiry_ms && GetTickCount64()>=g_bar_ms+(g_tester ? 0 : EXPIRY_GRACE_MS))
      CloseBecause("expiry","the target has expired");
  }
//+------------------------------------------------------------------+
void ShowComment(void)
  {
   string text="TuneTrade "+g_series+(g_tester ? "  tester" : (InpDryRun ? "  dry run" : "  trading"))+"\n";
   text+="link: "+(g_tester ? "targets from a file" : g_link.Status())+"\n";
   text+="held: "+DoubleToString(g_execution.Held(g_state),2)+" lots"+(g_state.halted ? ", stopped for today" : "")+"\n";
   text+="last: "+g_last;
   if(text==g_shown)
      return;
   g_shown=text;
   Comment(text);
  }
//+------------------------------------------------------------------+
//| Events                                                           |
//+------------------------------------------------------------------+
void FromFile(void)
  {
   MqlRates last[];
   STarget target;
   if(CopyRates(_Symbol,_Period,1,1,last)!=1 || !g_targets.At(last[0].time,target))
      return;
   target.forecast.bar_time_ms=(long)last[0].time*1000;
   target.forecast.expiry_ms=target.expiry*1000;
   string code=Decide(target.forecast,last[0]);
   g_known=g_execution.Held(g_state);
   if(code!="NOOP" && code!="TAKEN")
      Print(TimeToString(last[0].time)," ",code," ",g_last);
  }
//+------------------------------------------------------------------+
void OnTick(void)
  {
   MqlRates forming[];
   MqlTick tick;
   if(CopyRates(_Symbol,_Period,0,2,forming)!=2 || !SymbolInfoTick(_Symbol,tick))
      return;
   bool begun=(forming[1].time!=g_bar);
   if(begun)
     {
      if(g_stopped!=0)
         g_stop_bar=g_bar;
      g_stopped=0;
      LookForStops();
      int leapt=(g_bar!=0 ? g_execution.Trail(g_bid,g_ask,g_state) : 0);
      if(leapt!=0)
         g_stopped=leapt;
      g_known=g_execution.Held(g_state);
      g_bar=forming[1].time;
      g_bar_ms=GetTickCount64();
      g_closed_ms=(ulong)ClosesMs(forming[0].time);
      g_decided_on=(g_equity>0.0 ? g_equity : AccountInfoDouble(ACCOUNT_EQUITY));
     }
   else
      LookForStops();
   g_bid=tick.bid;
   g_ask=tick.ask;
   g_execution.PaperStops(g_state);
   if(g_tester)
     {
      if(begun)
         FromFile();
      Watch();
      g_equity=AccountInfoDouble(ACCOUNT_EQUITY);
      return;
     }
   g_equity=AccountInfoDouble(ACCOUNT_EQUITY);
   g_link.Tick(g_bar,g_execution.Held(g_state));
  }
//+------------------------------------------------------------------+
void Report(void)
  {
   if(g_link.ExecPending() || !g_link.IsLive() || (!g_deals_due && GetTickCount64()<g_next_deals))
      return;
   g_next_deals=GetTickCount64()+RETRY_MS;
   SDeal deal;
   g_deals_due=g_execution.NextDeal(g_state,deal) && g_link.Exec(deal);
  }
//+------------------------------------------------------------------+
void OnTimer(void)
  {
   if(g_tester)
      return;
   if(TerminalInfoInteger(TERMINAL_CONNECTED)==0)
     {
      g_status.Tell("no broker");
      return;                            // without the broker the terminal knows neither time nor prices
     }
   Watch();
   ENUM_LINK_EVENT event=g_link.Pump(g_state);
   for(int i=0; i<16 && event!=LINK_NOTHING; i++)
     {
      if(event==LINK_FORECAST)
        {
         SForecast forecast;
         g_link.GetForecast(forecast);
         string code=Judge(forecast);
         g_link.Ack(forecast,code,g_last);
         g_last=code+" "+g_last;
         if(code!="NOOP" && code!="DUP")
            Print(g_last);
        }
      if(event==LINK_CONFIRMED)
        {
         g_execution.Reported(g_link.Confirmed());
         if(!InpDryRun)
            g_state.last_deal=(long)g_link.Confirmed();
         g_state.Save();
         g_deals_due=true;
        }
      event=g_link.Pump(g_state);
     }
   Report();
   ShowComment();
   g_status.Tell(g_link.Status());
  }
//+------------------------------------------------------------------+
void OnTradeTransaction(const MqlTradeTransaction &transaction,const MqlTradeRequest &request,const MqlTradeResult &result)
  {
   if(transaction.type==TRADE_TRANSACTION_DEAL_ADD)
      g_deals_due=true;
  }
//+------------------------------------------------------------------+
