//+------------------------------------------------------------------+
//|                                                       Guards.mqh |
//|               What forbids an order, whoever asks for it         |
//+------------------------------------------------------------------+
// Two kinds. Those of Forbidden stop every order, closing ones too, since something is wrong with the link, the account
// or the terminal. Those of NoEntry stop new risk only: what is held may always be closed.
#ifndef TUNETRADE_GUARDS_MQH
#define TUNETRADE_GUARDS_MQH
#include <TuneTrade/Clock.mqh>
#include <TuneTrade/Protocol.mqh>
#include <TuneTrade/State.mqh>

#define GUARD_KILL_FILE "TuneTrade.kill"
#define GUARD_LOOK_MS   200

struct SGuardRules
  {
   bool              dry_run;
   bool              tester;
   bool              allow_real;
   bool              kill;
   double            feed_points;
   int               max_spread;
   int               max_age;
   double            daily_loss;
   int               max_positions;
   string            hours;
   string            friday_close;
   bool              stop_always;
   int               default_stop;
  };
//+------------------------------------------------------------------+
class CGuards
  {
private:
   SGuardRules       m_rules;
   string            m_symbol;
   ulong             m_magic;
   string            m_rule;
   string            m_text;
   bool              m_kill_file;
   ulong             m_next_look;    // for that file, which a tester's ticks are too many for

   bool              Says(const string rule,const string text);

public:
                     CGuards(void);
   void              Set(const SGuardRules &rules,const string symbol,const ulong magic);
   string            Rule(void) const { return(m_rule); }
   string            Text(void) const { return(m_text); }
   bool              Killed(void);
   bool              Barred(void);
   bool              Forbidden(const SForecast &forecast,const double own_close);
   bool              NoEntry(const SForecast &forecast,const datetime bar_closed,const CState &state,const bool adds_position);
   void              NewDay(CState &state) const;
   bool              LostTooMuch(CState &state) const;
   bool              NearWeekend(void) const;
   int               Positions(void) const;
  };
//+------------------------------------------------------------------+
CGuards::CGuards(void)
  {
   m_symbol="";
   m_magic=0;
   m_rule="";
   m_text="";
   m_kill_file=false;
   m_next_look=0;
   ZeroMemory(m_rules);
  }
//+------------------------------------------------------------------+
void CGuards::Set(const SGuardRules &rules,const string symbol,const ulong magic)
  {
   m_rules=rules;
   m_symbol=symbol;
   m_magic=magic;
   m_next_look=0;
  }
//+------------------------------------------------------------------+
bool CGuards::Says(const string rule,const string text)
  {
   m_rule=rule;
   m_text=text;
   return(true);
  }
//+------------------------------------------------------------------+
// By input, or by a file of that name in the folder of files, the terminal's own or the one all terminals share.
bool CGuards::Killed(void)
  {
   ulong now=GetTickCount64();
   if(now>=m_next_look)
     {
      m_kill_file=(FileIsExist(GUARD_KILL_FILE) || FileIsExist(GUARD_KILL_FILE,FILE_COMMON));
      m_next_look=now+GUARD_LOOK_MS;
     }
   return(m_rules.kill || m_kill_file);
  }
//+------------------------------------------------------------------+
// What forbids every order for as long as it lasts. The tester's account is nobody's money, whatever it is called.
bool CGuards::Barred(void)
  {
   bool sends=(!m_rules.dry_run && !m_rules.tester);
   if(sends && AccountInfoInteger(ACCOUNT_TRADE_MODE)==ACCOUNT_TRADE_MODE_REAL && !m_rules.allow_real)
      return(Says("demo_only","a real account, and real money is not allowed by the inputs"));
   if(Killed())
      return(Says("kill","the kill switch is on (input or file "+GUARD_KILL_FILE+")"));
   if(sends)
     {
      if(TerminalInfoInteger(TERMINAL_TRADE_ALLOWED)==0 || MQLInfoInteger(MQL_TRADE_ALLOWED)==0)
         return(Says("not_allowed","algorithmic trading is switched off in the terminal or for this chart"));
      if(AccountInfoInteger(ACCOUNT_TRADE_ALLOWED)==0 || AccountInfoInteger(ACCOUNT_TRADE_EXPERT)==0)
         return(Says("not_allowed","the broker does not let this account trade by programs"));
      if(SymbolInfoInteger(m_symbol,SYMBOL_TRADE_MODE)==SYMBOL_TRADE_MODE_DISABLED)
         return(Says("not_allowed","the broker has closed "+m_symbol+" to trading"));
     }
   return(false);
  }
//+------------------------------------------------------------------+
bool CGuards::Forbidden(const SForecast &forecast,const double own_close)
  {
   m_next_look=0;
   if(Barred())
      return(true);
   double point=SymbolInfoDouble(m_symbol,SYMBOL_POINT);
   double apart=MathAbs(forecast.close_ref-own_close);
   if(apart>m_rules.feed_points*point*1.0000001)
      return(Says("feed_mismatch",StringFormat("the forecast is of a close %.8g, this chart's is %.8g",forecast.close_ref,own_close)));
   return(false);
  }
//+------------------------------------------------------------------+
// Nothing is held through a bar that reaches beyond Friday's close, as in a backtest (docs/EXECUTION.md): the clock of the
// dealing decides, not that of the forecast, so a bar that closes with the week trades on Monday.
bool CGuards::NearWeekend(void) const
  {
   return(WeekendAhead(m_rules.friday_close,LastSecond(TimeTradeServer(),_Period)));
  }
//+------------------------------------------------------------------+
bool CGuards::NoEntry(const SForecast &forecast,const datetime bar_closed,const CState &state,const bool adds_position)
  {
   if(state.halted)
      return(Says("daily_loss",StringFormat("more than %.2f %% lost today",m_rules.daily_loss)));
   if(m_rules.max_age>0 && (long)TimeTradeServer()-(long)bar_closed>m_rules.max_age)
      return(Says("max_age",StringFormat("the bar closed %I64d s ago, at most %d",(long)TimeTradeServer()-(long)bar_closed,m_rules.max_age)));
   if(NearWeekend())
      return(Says("friday_close","the weekend is near"));
   if(!WithinHours(m_rules.hours,bar_closed))
      return(Says("hours","outside "+m_rules.hours+" of the broker's clock"));
   long spread=(long)MathRound((SymbolInfoDouble(m_symbol,SYMBOL_ASK)-SymbolInfoDouble(m_symbol,SYMBOL_BID))/SymbolInfoDouble(m_symbol,SYMBOL_POINT));
   if(m_rules.max_spread>0 && spread>m_rules.max_spread)
      return(Says("max_spread",StringFormat("spread %I64d points, at most %d",spread,m_rules.max_spread)));
   if(m_rules.stop_always && forecast.stop<=0.0 && forecast.trailing<=0.0 && m_rules.default_stop<=0)
      return(Says("no_stop","the target has no stop loss, and no default is set"));
   if(adds_position && m_rules.max_positions>0 && Positions()>=m_rules.max_positions)
      return(Says("max_positions",StringFormat("%d positions are open, at most %d",Positions(),m_rules.max_positions)));
   return(false);
  }
//+------------------------------------------------------------------+
void CGuards::NewDay(CState &state) const
  {
   long today=(long)TimeTradeServer()/CLOCK_DAY;
   double equity=AccountInfoDouble(ACCOUNT_EQUITY);
   if(today==state.day || equity==0.0)      // 0 before the account is known: the day's loss would have no measure
      return;
   state.day=today;
   state.day_equity=equity;
   state.halted=false;
   state.Save();
  }
//+------------------------------------------------------------------+
// True in the moment in which the day's loss is reached.
bool CGuards::LostTooMuch(CState &state) const
  {
   if(m_rules.daily_loss<=0.0 || state.halted || state.day_equity<=0.0)
      return(false);
   double equity=AccountInfoDouble(ACCOUNT_EQUITY);
   if(equity==0.0 || equity>state.day_equity*(1.0-m_rules.daily_loss/100.0))
      return(false);
   state.halted=true;
   state.Save();
   return(true);
  }
//+------------------------------------------------------------------+
// Positions with our magic number, in all symbols.
int CGuards::Positions(void) const
  {
   int count=0;
   for(int i=PositionsTotal()-1; i>=0; i--)
      if(PositionGetTicket(i)!=0 && (ulong)PositionGetInteger(POSITION_MAGIC)==m_magic)
         count++;
   return(count);
  }
#endif
//+------------------------------------------------------------------+
