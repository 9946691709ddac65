//+------------------------------------------------------------------+
//|                                                    Execution.mqh |
//|           From the position wanted to orders (docs/EXECUTION.md) |
//+------------------------------------------------------------------+
// Closing comes before opening; a netting account turns round in one deal. A dry run keeps a position on paper, at the
// quotes of the moment, so that what it tells is what would have been.
//
// A broker's answer is not yet a deal: the account's list of positions may follow it later, an order may be done in part,
// or done although no answer came. So what is held is what the list says, but for a moment after an order what it has to
// say next; while an order is being filled no other is sent; and where an answer did not come nothing is sent to mend it.
#ifndef TUNETRADE_EXECUTION_MQH
#define TUNETRADE_EXECUTION_MQH
#include <TuneTrade/Clock.mqh>
#include <TuneTrade/Protocol.mqh>
#include <TuneTrade/State.mqh>

#define EXECUTION_DEVIATION 20
#define EXECUTION_KEPT      64
#define EXECUTION_SENDS     3      // of an order that is requoted
#define EXECUTION_LAG_MS    2000   // longest that the list of positions is taken to be behind an answer

enum ENUM_SIZING
  {
   SIZING_FORECAST=0,  // as the forecast says
   SIZING_FIXED=1,     // fixed lots
   SIZING_RISK=2       // percent of equity lost at the stop
  };

// What an order was sent for, kept until its deal has been told.
struct SAsked
  {
   ulong             order;
   ulong             deal;           // 0 where the broker did not know it when it answered
   double            requested;
   ulong             sent_us;
   double            latency_ms;
   string            reason;
   long              bar_time_ms;
  };
//+------------------------------------------------------------------+
class CExecution
  {
private:
   string            m_symbol;
   ulong             m_magic;
   bool              m_dry;
   bool              m_hedging;
   ENUM_SIZING       m_sizing;
   double            m_fixed_lots;
   double            m_risk;
   double            m_max_lots;
   int               m_default_stop;
   double            m_point;
   int               m_digits;
   double            m_step;
   double            m_least;
   double            m_most;
   string            m_failure;
   ENUM_BROKER_CLOCK m_clock;
   ulong             m_order;         // that was taken last
   ulong             m_working;       // the same, where it may not be filled yet
   double            m_left;          // lots of it that are not done
   bool              m_doubtful;      // the last order may have been done although it failed
   double            m_expected;      // lots held once the list of positions has caught up
   ulong             m_lag_ends;      // until when that is waited for; 0 where it has
   SAsked            m_asked[];
   SDeal             m_paper[];

   ENUM_ORDER_TYPE_FILLING Filling(void) const;
   double            Quote(const bool buy) const { return(SymbolInfoDouble(m_symbol,buy ? SYMBOL_ASK : SYMBOL_BID)); }
   bool              Send(MqlTradeRequest &request,const string reason,const long bar_time_ms);
   bool              Deal(const bool buy,const double lots,const ulong ticket,const double stop,const double profit,const string reason,const long bar_time_ms);
   bool              PaperDeal(const bool buy,const double lots,const double price,const double stop,const double profit,const string reason,const long bar_time_ms,CState &state);
   bool              Mine(const int index) const;
   double            Listed(void) const;
   double            Real(void);
   bool              Working(void) const { return(m_working!=0 && OrderSelect(m_working)); }
   void              Expect(const double lots);
   bool              Turn(const int side,const double lots,const double held,const double stop,const double profit,const SForecast &forecast,const string reason,CState &state);
   bool              CloseOne(const string reason,const long bar_time_ms);
   void              Follow(const ulong opened,const double distance,CState &state) const;
   void              KeepLevels(const CState &state,double &stop,double &profit) const;
   void              Remember(const SAsked &asked);

public:
                     CExecution(void);
   bool              Set(const string symbol,const ulong magic,const bool dry,const ENUM_SIZING sizing,const double fixed_lots,const double risk,const double max_lots,const int default_stop,const ENUM_BROKER_CLOCK clock);
   double            Held(const CState &state) { return(m_dry ? state.paper_lots : Real()); }
   double            Floored(const double lots) const;
   double            LotsFor(const SForecast &forecast,const double equity) const;
   double            StopFor(const SForecast &forecast,const int side) const;
   bool              CloseAll(const string reason,const long bar_time_ms,CState &state);
   bool              Open(const int side,const double lots,const SForecast &forecast,const string reason,CState &state);
   bool              Reduce(const double lots,const SForecast &forecast,CState &state);
   int               Trail(const double bid,const double ask,CState &state);
   bool              PaperStops(CState &state);
   string            Failure(void) const { return(m_failure); }
   bool              NextDeal(const CState &state,SDeal &deal) const;
   void              Reported(const ulong deal);
  };
//+------------------------------------------------------------------+
CExecution::CExecution(void)
  {
   m_symbol="";
   m_magic=0;
   m_dry=true;
   m_hedging=true;
   m_sizing=SIZING_FORECAST;
   m_fixed_lots=0.0;
   m_risk=0.0;
   m_max_lots=0.0;
   m_default_stop=0;
   m_point=0.0;
   m_digits=0;
   m_step=0.0;
   m_least=0.0;
   m_most=0.0;
   m_failure="";
   m_clock=CLOCK_FIXED;
   m_order=0;
   m_working=0;
   m_left=0.0;
   m_doubtful=false;
   m_expected=0.0;
   m_lag_ends=0;
  }
//+------------------------------------------------------------------+
// False where the terminal does not know the symbol's sizes yet.
bool CExecution::Set(const string symbol,const ulong magic,const bool dry,const ENUM_SIZING sizing,const double fixed_lots,const double risk,const double max_lots,const int default_stop,const ENUM_BROKER_CLOCK clock)
  {
   m_symbol=symbol;
   m_clock=clock;
   m_working=0;
   m_lag_ends=0;
   m_magic=magic;
   m_dry=dry;
   m_sizing=sizing;
   m_fixed_lots=fixed_lots;
   m_risk=risk;
   m_max_lots=max_lots;
   m_default_stop=default_stop;
   m_hedging=(AccountInfoInteger(ACCOUNT_MARGIN_MODE)==ACCOUNT_MARGIN_MODE_RETAIL_HEDGING);
   m_point=SymbolInfoDouble(symbol,SYMBOL_POINT);
   m_digits=(int)SymbolInfoInteger(symbol,SYMBOL_DIGITS);
   m_step=SymbolInfoDouble(symbol,SYMBOL_VOLUME_STEP);
   m_least=SymbolInfoDouble(symbol,SYMBOL_VOLUME_MIN);
   m_most=SymbolInfoDouble(symbol,SYMBOL_VOLUME_MAX);
   return(m_point>0.0 && m_step>0.0 && m_most>0.0);
  }
//+------------------------------------------------------------------+
bool CExecution::Mine(const int index) const
  {
   if(PositionGetTicket(index)==0)
      return(false);
   return(PositionGetString(POSITION_SYMBOL)==m_symbol && (ulong)PositionGetInteger(POSITION_MAGIC)==m_magic);
  }
//+------------------------------------------------------------------+
// Lots held, negative is short, as the terminal lists them.
double CExecution::Listed(void) const
  {
   double lots=0.0;
   for(int i=PositionsTotal()-1; i>=0; i--)
      if(Mine(i))
         lots+=(PositionGetInteger(POSITION_TYPE)==POSITION_TYPE_BUY ? 1.0 : -1.0)*PositionGetDouble(POSITION_VOLUME);
   return(NormalizeDouble(lots,8));
  }
//+------------------------------------------------------------------+
double CExecution::Real(void)
  {
   double listed=Listed();
   if(m_lag_ends==0)
      return(listed);
   if(MathAbs(listed-m_expected)<1e-9 || (GetTickCount64()>=m_lag_ends && !Working()))
     {
      m_lag_ends=0;
      return(listed);
     }
   return(m_expected);
  }
//+------------------------------------------------------------------+
void CExecution::Expect(const double lots)
  {
   m_expected=NormalizeDouble(lots,8);
   bool late=(MathAbs(Listed()-m_expected)>1e-9 && MQLInfoInteger(MQL_TESTER)==0);
   m_lag_ends=(late ? GetTickCount64()+EXECUTION_LAG_MS : 0);
  }
//+------------------------------------------------------------------+
// Whole steps, at most the broker's and our own limit; 0 where that is too small to open.
double CExecution::Floored(const double lots) const
  {
   double most=(m_max_lots>0.0 ? MathMin(m_most,m_max_lots) : m_most);
   double steps=MathMin(MathFloor(lots/m_step+1e-9),MathFloor(most/m_step+1e-9));
   if(steps<MathCeil(m_least/m_step-1e-9))
      return(0.0);
   return(NormalizeDouble(steps*m_step,8));
  }
//+------------------------------------------------------------------+
// equity: of the close at which the target was decided, as the backtest sizes by.
double CExecution::LotsFor(const SForecast &forecast,const double equity) const
  {
   if(m_sizing==SIZING_FORECAST)
     {
      double lots=MathAbs(forecast.position)*(forecast.lots+forecast.lots_per_money*equity);
      return(Floored(forecast.max_lots>0.0 ? MathMin(lots,forecast.max_lots) : lots));
     }
   if(m_sizing==SIZING_FIXED)
      return(Floored(m_fixed_lots));
   int side=(forecast.position>0.0 ? 1 : -1);
   double stop=StopFor(forecast,side);
   double loss=0.0;
   if(stop<=0.0 || !OrderCalcProfit(side>0 ? ORDER_TYPE_BUY : ORDER_TYPE_SELL,m_symbol,1.0,Quote(side>0),stop,loss) || loss>=0.0)
      return(0.0);
   return(Floored(AccountInfoDouble(ACCOUNT_EQUITY)*m_risk/100.0/-loss));
  }
//+------------------------------------------------------------------+
// The target's stop, else the trailing distance, else the default distance, from the side that closes; 0 is none.
double CExecution::StopFor(const SForecast &forecast,const int side) const
  {
   if(forecast.stop>0.0)
      return(NormalizeDouble(forecast.stop,m_digits));
   double distance=(forecast.trailing>0.0 ? forecast.trailing : m_default_stop*m_point);
   if(distance<=0.0)
      return(0.0);
   return(NormalizeDouble(Quote(side<0)-side*distance,m_digits));
  }
//+------------------------------------------------------------------+
// RETURN is refused under market execution, so it is the last resort (error 10030 is what a fixed choice gives).
ENUM_ORDER_TYPE_FILLING CExecution::Filling(void) const
  {
   long allowed=SymbolInfoInteger(m_symbol,SYMBOL_FILLING_MODE);
   if((allowed&SYMBOL_FILLING_FOK)!=0)
      return(ORDER_FILLING_FOK);
   if((allowed&SYMBOL_FILLING_IOC)!=0)
      return(ORDER_FILLING_IOC);
   return(ORDER_FILLING_RETURN);
  }
//+------------------------------------------------------------------+
// True where the broker took the order. A requote refuses for certain, so the order is sent again at the new price.
bool CExecution::Send(MqlTradeRequest &request,const string reason,const long bar_time_ms)
  {
   MqlTradeResult result;
   SAsked asked;
   bool buy=(request.type==ORDER_TYPE_BUY);
   double held=Real();
   bool taken=false;
   bool again=true;
   for(int i=0; i<EXECUTION_SENDS && again; i++)
     {
      ZeroMemory(result);
      request.price=Quote(buy);
      asked.sent_us=GetMicrosecondCount();
      ResetLastError();
      bool sent=OrderSend(request,result);
      uint code=result.retcode;
      taken=(sent && (code==TRADE_RETCODE_DONE || code==TRADE_RETCODE_PLACED || code==TRADE_RETCODE_DONE_PARTIAL));
      again=(code==TRADE_RETCODE_REQUOTE || code==TRADE_RETCODE_PRICE_CHANGED);
      m_doubtful=(!taken && (code==0 || code==TRADE_RETCODE_ERROR || code==TRADE_RETCODE_TIMEOUT || code==TRADE_RETCODE_CONNECTION));
     }
   if(!taken)
     {
      m_failure=StringFormat("the broker %s: code %d, error %d",m_doubtful ? "gave no clear answer" : "refused",(int)result.retcode,GetLastError());
      return(false);
     }
   bool whole=(result.retcode!=TRADE_RETCODE_DONE_PARTIAL);
   double done=(whole ? request.volume : result.volume);
   m_left=NormalizeDouble(request.volume-done,8);
   m_order=result.order;
   m_working=(result.retcode==TRADE_RETCODE_DONE ? 0 : result.order);
   Expect(held+(buy ? done : -done));
   asked.order=result.order;
   asked.deal=result.deal;
   asked.requested=request.price;
   asked.latency_ms=(double)(GetMicrosecondCount()-asked.sent_us)/1000.0;
   asked.reason=reason;
   asked.bar_time_ms=bar_time_ms;
   Remember(asked);
   return(true);
  }
//+------------------------------------------------------------------+
void CExecution::Remember(const SAsked &asked)
  {
   int count=ArraySize(m_asked);
   if(count>=EXECUTION_KEPT)
     {
      for(int i=1; i<count; i++)
         m_asked[i-1]=m_asked[i];
      count--;
     }
   ArrayResize(m_asked,count+1);
   m_asked[count]=asked;
  }
//+------------------------------------------------------------------+
bool CExecution::Deal(const bool buy,const double lots,const ulong ticket,const double stop,const double profit,const string reason,const long bar_time_ms)
  {
   if(Working())
     {
      m_failure="the order before is still being filled";
      m_doubtful=true;
      return(false);
     }
   MqlTradeRequest request;
   ZeroMemory(request);
   request.action=TRADE_ACTION_DEAL;
   request.symbol=m_symbol;
   request.magic=m_magic;
   request.volume=lots;
   request.type=(buy ? ORDER_TYPE_BUY : ORDER_TYPE_SELL);
   request.sl=stop;
   request.tp=profit;
   request.deviation=EXECUTION_DEVIATION;
   request.type_filling=Filling();
   request.position=ticket;
   request.comment="TuneTrade";
   return(Send(request,reason,bar_time_ms));
  }
//+------------------------------------------------------------------+
bool CExecution::CloseAll(const string reason,const long bar_time_ms,CState &state)
  {
   m_failure="";
   if(m_dry)
      return(state.paper_lots==0.0 || PaperDeal(state.paper_lots<0.0,MathAbs(state.paper_lots),Quote(state.paper_lots<0.0),0.0,0.0,reason,bar_time_ms,state));
   bool done=true;
   for(int i=PositionsTotal()-1; i>=0; i--)
      if(Mine(i))
         done=CloseOne(reason,bar_time_ms) && done;
   return(done);
  }
//+------------------------------------------------------------------+
// Of the position that is selected.
bool CExecution::CloseOne(const string reason,const long bar_time_ms)
  {
   bool buy=(PositionGetInteger(POSITION_TYPE)==POSITION_TYPE_SELL);
   double lots=PositionGetDouble(POSITION_VOLUME);
   if(!Deal(buy,lots,(ulong)PositionGetInteger(POSITION_TICKET),0.0,0.0,reason,bar_time_ms))
      return(false);
   if(m_left>0.0)
      m_failure=StringFormat("%.2f of %.2f lots are still held",m_left,lots);
   return(m_left==0.0);
  }
//+------------------------------------------------------------------+
// Opens or enlarges. On a netting account a position of the other side is turned round by the same order.
bool CExecution::Open(const int side,const double lots,const SForecast &forecast,const string reason,CState &state)
  {
   m_failure="";
   double stop=StopFor(forecast,side);
   double profit=NormalizeDouble(forecast.take_profit,m_digits);
   double held=Held(state);
   bool turn=(held*side<0.0);
   bool enlarges=(held*side>0.0 && (m_dry || !m_hedging));
   if(enlarges)
      KeepLevels(state,stop,profit);
   // A stop that is reached already would close at once; the backtest refuses such entries.
   double leaves=Quote(side<0);
   double least=(double)SymbolInfoInteger(m_symbol,SYMBOL_TRADE_STOPS_LEVEL)*m_point-m_point/1000.0;
   double to_stop=(stop>0.0 ? side*(leaves-stop) : DBL_MAX);
   double to_profit=(profit>0.0 ? side*(profit-leaves) : DBL_MAX);
   if(MathMin(to_stop,to_profit)<=0.0 || MathMin(to_stop,to_profit)<least)
     {
      m_failure="the stop or the profit is reached, or nearer than the broker's least distance";
      if(turn)
         CloseAll(reason,forecast.bar_time_ms,state);
      return(false);
     }
   if(m_dry)
     {
      if(turn && !CloseAll(reason,forecast.bar_time_ms,state))
         return(false);
      if(!enlarges)
         state.paper_trailing=forecast.trailing;
      return(PaperDeal(side>0,lots,Quote(side>0),stop,profit,reason,forecast.bar_time_ms,state));
     }
   bool at_once=(turn && !m_hedging && NormalizeDouble(lots+MathAbs(held),8)<=m_most+m_step/2.0);
   if(at_once)
      return(Turn(side,lots,held,stop,profit,forecast,reason,state));
   if(turn && !CloseAll(reason,forecast.bar_time_ms,state))
      return(false);
   if(!Deal(side>0,lots,0,stop,profit,reason,forecast.bar_time_ms))
      return(false);
   if(!enlarges)
      Follow(m_order,forecast.trailing,state);
   return(true);
  }
//+------------------------------------------------------------------+
// A netting account's position to the other side by one order. A broker that refuses it has closed nothing, and what is
// held is not wanted either way.
bool CExecution::Turn(const int side,const double lots,const double held,const double stop,const double profit,const SForecast &forecast,const string reason,CState &state)
  {
   if(!Deal(side>0,NormalizeDouble(lots+MathAbs(held),8),0,stop,profit,reason,forecast.bar_time_ms))
     {
      string why=m_failure;
      if(!m_doubtful)
         CloseAll(reason,forecast.bar_time_ms,state);
      m_failure=why;
      return(false);
     }
   if(m_left>lots+m_step/2.0)
     {
      m_failure=StringFormat("%.2f of %.2f lots are still held",m_left-lots,MathAbs(held));
      return(false);
     }
   Follow(m_order,forecast.trailing,state);
   return(true);
  }
//+------------------------------------------------------------------+
// Notes how far behind the stop of a new position follows. A position has the number of the order that opened it, under
// which it is noted since it may not be listed yet; on a netting account whatever is held follows.
void CExecution::Follow(const ulong opened,const double distance,CState &state) const
  {
   ulong open[];
   int total=PositionsTotal();
   ArrayResize(open,total+1);
   int count=0;
   for(int i=0; i<total; i++)
      if(Mine(i))
        {
         open[count]=(ulong)PositionGetInteger(POSITION_IDENTIFIER);
         if(!m_hedging)
            state.SetTrailing(open[count],distance);
         count++;
        }
   open[count]=opened;
   state.SetTrailing(opened,distance);
   state.ForgetTrailing(open,count+1);
  }
//+------------------------------------------------------------------+
// On a netting account an order's levels become those of the whole position; enlarging must not move them.
void CExecution::KeepLevels(const CState &state,double &stop,double &profit) const
  {
   if(m_dry)
     {
      stop=state.paper_stop;
      profit=state.paper_profit;
      return;
     }
   for(int i=PositionsTotal()-1; i>=0; i--)
      if(Mine(i))
        {
         stop=PositionGetDouble(POSITION_SL);
         profit=PositionGetDouble(POSITION_TP);
        }
  }
//+------------------------------------------------------------------+
// Closes so many lots of what is held, the oldest first.
bool CExecution::Reduce(const double lots,const SForecast &forecast,CState &state)
  {
   m_failure="";
   double left=lots;
   if(m_dry)
      return(PaperDeal(state.paper_lots<0.0,lots,Quote(state.paper_lots<0.0),state.paper_stop,state.paper_profit,"signal",forecast.bar_time_ms,state));
   int total=PositionsTotal();
   ulong tickets[];
   ArrayResize(tickets,total);
   int count=0;
   for(int i=0; i<total; i++)
      if(Mine(i))
        {
         tickets[count]=(ulong)PositionGetInteger(POSITION_TICKET);
         count++;
        }
   for(int i=0; i<count && left>m_step/2.0; i++)
     {
      if(!PositionSelectByTicket(tickets[i]))
         continue;
      double part=NormalizeDouble(MathMin(left,PositionGetDouble(POSITION_VOLUME)),8);
      if(!Deal(PositionGetInteger(POSITION_TYPE)==POSITION_TYPE_SELL,part,tickets[i],0.0,0.0,"signal",forecast.bar_time_ms))
         return(false);
      left-=part;
     }
   return(true);
  }
//+------------------------------------------------------------------+
// Stops follow the last quotes of a bar where those are nearer. Where the price has leapt over one the position is closed,
// as the broker would have; the side of what was closed, 0 for none.
int CExecution::Trail(const double bid,const double ask,CState &state)
  {
   int closed=0;
   if(m_dry)
     {
      if(state.paper_trailing>0.0 && state.paper_lots>0.0)
         state.paper_stop=MathMax(state.paper_stop,NormalizeDouble(bid-state.paper_trailing,m_digits));
      if(state.paper_trailing>0.0 && state.paper_lots<0.0)
         state.paper_stop=MathMin(state.paper_stop,NormalizeDouble(ask+state.paper_trailing,m_digits));
      return(0);
     }
   for(int i=PositionsTotal()-1; i>=0; i--)
     {
      if(!Mine(i))
         continue;
      double distance=state.Trailing((ulong)PositionGetInteger(POSITION_IDENTIFIER));
      if(distance<=0.0)
         continue;
      int side=(PositionGetInteger(POSITION_TYPE)==POSITION_TYPE_BUY ? 1 : -1);
      double stop=PositionGetDouble(POSITION_SL);
      double wanted=NormalizeDouble((side>0 ? bid : ask)-side*distance,m_digits);
      if(stop>0.0 && side*(wanted-stop)<m_point/2.0)
         continue;
      if(side*(Quote(side<0)-wanted)<=0.0)
        {
         double lots=PositionGetDouble(POSITION_VOLUME);
         if(Deal(side<0,lots,(ulong)PositionGetInteger(POSITION_TICKET),0.0,0.0,"trailing",0))
            closed=side;
         continue;
        }
      MqlTradeRequest request;
      ZeroMemory(request);
      request.action=TRADE_ACTION_SLTP;
      request.symbol=m_symbol;
      request.magic=m_magic;
      request.position=(ulong)PositionGetInteger(POSITION_TICKET);
      request.sl=wanted;
      request.tp=PositionGetDouble(POSITION_TP);
      MqlTradeResult result;
      ZeroMemory(result);
      if(!OrderSend(request,result))
         PrintFormat("the stop of %I64u could not follow: code %d",request.position,(int)result.retcode);
     }
   return(closed);
  }
//+------------------------------------------------------------------+
//| On paper                                                         |
//+------------------------------------------------------------------+
bool CExecution::PaperDeal(const bool buy,const double lots,const double price,const double stop,const double profit,const string reason,const long bar_time_ms,CState &state)
  {
   double before=state.paper_lots;
   double after=NormalizeDouble(before+(buy ? lots : -lots),8);
   state.paper_deals++;
   SDeal deal;
   deal.deal=(ulong)state.paper_deals;
   deal.order=deal.deal;
   deal.ticket=1;
   deal.buy=buy;
   deal.entry=(MathAbs(after)>MathAbs(before) ? "in" : "out");
   deal.lots=lots;
   deal.price=price;
   deal.requested=(reason=="stop" || reason=="take_profit" ? 0.0 : price);
   deal.slippage=0.0;
   deal.commission=0.0;
   deal.swap=0.0;
   deal.profit=0.0;
   deal.time_ms=(long)TimeGMT()*1000;
   deal.latency_ms=0.0;
   deal.reason=reason;
   deal.bar_time_ms=bar_time_ms;
   if(before!=0.0 && deal.entry=="out")
      OrderCalcProfit(before>0.0 ? ORDER_TYPE_BUY : ORDER_TYPE_SELL,m_symbol,lots,state.paper_price,price,deal.profit);
   if(deal.entry=="in")
      state.paper_price=(state.paper_price*MathAbs(before)+price*lots)/MathAbs(after);
   state.paper_lots=after;
   state.paper_stop=(after==0.0 ? 0.0 : stop);
   state.paper_profit=(after==0.0 ? 0.0 : profit);
   int count=ArraySize(m_paper);
   ArrayResize(m_paper,count+1);
   m_paper[count]=deal;
   PrintFormat("dry run: %s %.2f %s at %s, %s",buy ? "buy" : "sell",lots,m_symbol,DoubleToString(price,m_digits),reason);
   return(true);
  }
//+------------------------------------------------------------------+
// Whether one was reached.
bool CExecution::PaperStops(CState &state)
  {
   if(!m_dry || state.paper_lots==0.0)
      return(false);
   int side=(state.paper_lots>0.0 ? 1 : -1);
   double leaves=Quote(side<0);
   if(state.paper_stop>0.0 && side*(leaves-state.paper_stop)<=0.0)
      return(PaperDeal(side<0,MathAbs(state.paper_lots),leaves,0.0,0.0,"stop",0,state));
   if(state.paper_profit>0.0 && side*(leaves-state.paper_profit)>=0.0)
      return(PaperDeal(side<0,MathAbs(state.paper_lots),state.paper_profit,0.0,0.0,"take_profit",0,state));
   return(false);
  }
//+------------------------------------------------------------------+
//| Deals to be told                                                 |
//+------------------------------------------------------------------+
// The oldest deal the server has not confirmed. Real ones are read from the account's history, so none is lost by a
// restart or by transactions that arrive in another order.
bool CExecution::NextDeal(const CState &state,SDeal &deal) const
  {
   if(m_dry)
     {
      if(ArraySize(m_paper)==0)
         return(false);
      deal=m_paper[0];
      return(true);
     }
   datetime from=(datetime)((long)TimeTradeServer()-14*86400);
   if(!HistorySelect(from,(datetime)((long)TimeTradeServer()+86400)))
      return(false);
   ulong found=0;
   int total=HistoryDealsTotal();
   for(int i=0; i<total; i++)
     {
      ulong ticket=HistoryDealGetTicket(i);
      if(ticket<=(ulong)state.last_deal || (found!=0 && ticket>found))
         continue;
      long type=HistoryDealGetInteger(ticket,DEAL_TYPE);
      if(type!=DEAL_TYPE_BUY && type!=DEAL_TYPE_SELL)
         continue;
      if(HistoryDealGetString(ticket,DEAL_SYMBOL)==m_symbol && (ulong)HistoryDealGetInteger(ticket,DEAL_MAGIC)==m_magic)
         found=ticket;
     }
   if(found==0)
      return(false);
   long entry=HistoryDealGetInteger(found,DEAL_ENTRY);
   long why=HistoryDealGetInteger(found,DEAL_REASON);
   deal.deal=found;
   deal.order=(ulong)HistoryDealGetInteger(found,DEAL_ORDER);
   deal.ticket=(ulong)HistoryDealGetInteger(found,DEAL_POSITION_ID);
   deal.buy=(HistoryDealGetInteger(found,DEAL_TYPE)==DEAL_TYPE_BUY);
   deal.entry=(entry==DEAL_ENTRY_IN ? "in" : (entry==DEAL_ENTRY_INOUT ? "inout" : "out"));
   deal.lots=HistoryDealGetDouble(found,DEAL_VOLUME);
   deal.price=HistoryDealGetDouble(found,DEAL_PRICE);
   deal.requested=0.0;
   deal.slippage=0.0;
   deal.commission=HistoryDealGetDouble(found,DEAL_COMMISSION)+HistoryDealGetDouble(found,DEAL_FEE);
   deal.swap=HistoryDealGetDouble(found,DEAL_SWAP);
   deal.profit=HistoryDealGetDouble(found,DEAL_PROFIT);
   long done_ms=HistoryDealGetInteger(found,DEAL_TIME_MSC);
   deal.time_ms=UtcOf((datetime)(done_ms/1000),m_clock)*1000+done_ms%1000;
   deal.latency_ms=0.0;
   deal.reason=(why==DEAL_REASON_SL ? "stop" : (why==DEAL_REASON_TP ? "take_profit" : (why==DEAL_REASON_SO ? "stop_out" : "user")));
   deal.bar_time_ms=0;
   for(int i=0; i<ArraySize(m_asked); i++)
      if(m_asked[i].deal==found || (m_asked[i].order!=0 && m_asked[i].order==deal.order))
        {
         deal.requested=m_asked[i].requested;
         deal.slippage=(deal.buy ? 1.0 : -1.0)*(deal.price-m_asked[i].requested)/m_point;
         deal.latency_ms=m_asked[i].latency_ms;
         deal.reason=m_asked[i].reason;
         deal.bar_time_ms=m_asked[i].bar_time_ms;
        }
   return(true);
  }
//+------------------------------------------------------------------+
void CExecution::Reported(const ulong deal)
  {
   int count=ArraySize(m_paper);
   if(count==0 || m_paper[0].deal!=deal)
      return;
   for(int i=1; i<count; i++)
      m_paper[i-1]=m_paper[i];
   ArrayResize(m_paper,count-1);
  }
#endif
//+------------------------------------------------------------------+
