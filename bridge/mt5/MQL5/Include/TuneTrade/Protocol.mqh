//+------------------------------------------------------------------+
//|                                                     Protocol.mqh |
//|           Messages of the link, version 1 (bridge/PROTOCOL.md)   |
//+------------------------------------------------------------------+
#ifndef TUNETRADE_PROTOCOL_MQH
#define TUNETRADE_PROTOCOL_MQH
#include <TuneTrade/Json.mqh>
#include <TuneTrade/Sha256.mqh>

#define PROTOCOL_VERSION  1
#define PROTOCOL_MAX_BARS 400
#define PROTOCOL_CLIENT   "TuneTrade.mq5 1.00"

// What a forecast says about trading; the distribution itself is for people and journals.
struct SForecast
  {
   long              epoch;
   long              seq;
   long              bar_time_ms;
   double            close_ref;
   long              valid_until_ms;
   double            position;
   double            lots;
   double            lots_per_money; // added for each unit of equity at the bar's close; of a file only
   double            max_lots;       // 0 is none
   bool              may_open;       // or enlarge
   datetime          decided;        // open of the bar whose close it was decided at
   double            stop;          // 0 is none, as MetaTrader has it
   double            take_profit;
   double            trailing;
   bool              resize;
   long              expiry_ms;
   string            reason;
   string            model_id;
   double            p_up;          // of the last step
   double            mean;
  };

struct SHead
  {
   string            type;
   long              epoch;
   long              seq;
   long              re;
  };

struct SDeal
  {
   ulong             deal;
   ulong             order;
   ulong             ticket;
   bool              buy;
   string            entry;
   double            lots;
   double            price;
   double            requested;     // 0 is none: a stop or a take profit
   double            slippage;
   double            commission;
   double            swap;
   double            profit;
   long              time_ms;
   double            latency_ms;
   string            reason;
   long              bar_time_ms;
  };
//+------------------------------------------------------------------+
bool ReadHead(const CJson &json,const string frame,SHead &head)
  {
   long version=0;
   if(!json.GetInteger("v",version) || version!=PROTOCOL_VERSION || !json.GetString("type",head.type) || head.type!=frame)
      return(false);
   return(json.GetInteger("epoch",head.epoch) && json.GetInteger("seq",head.seq) && json.GetInteger("re",head.re));
  }
//+------------------------------------------------------------------+
// A price, or 0 for null.
bool ReadLevel(const CJson &json,const string key,double &level)
  {
   level=0.0;
   if(json.IsNull(key))
      return(true);
   return(json.GetNumber(key,level) && level>0.0);
  }
//+------------------------------------------------------------------+
bool ReadForecast(const CJson &json,const SHead &head,SForecast &forecast)
  {
   forecast.epoch=head.epoch;
   forecast.seq=head.seq;
   forecast.lots_per_money=0.0;
   forecast.max_lots=0.0;
   forecast.may_open=true;
   forecast.decided=0;
   bool whole=json.GetInteger("bar_time_ms",forecast.bar_time_ms) && json.GetNumber("close_ref",forecast.close_ref);
   whole=whole && json.GetInteger("valid_until_ms",forecast.valid_until_ms) && json.GetInteger("expiry_ms",forecast.expiry_ms);
   whole=whole && json.GetNumber("position",forecast.position) && json.GetNumber("lots",forecast.lots);
   whole=whole && ReadLevel(json,"stop",forecast.stop) && ReadLevel(json,"take_profit",forecast.take_profit);
   whole=whole && ReadLevel(json,"trailing",forecast.trailing) && json.GetBool("resize",forecast.resize);
   whole=whole && json.GetString("reason",forecast.reason) && json.GetString("model_id",forecast.model_id);
   int steps=json.ListSize("p_up");
   whole=whole && steps>0 && json.ListSize("mean")==steps;
   if(!whole || MathAbs(forecast.position)>1.0 || forecast.lots<0.0 || forecast.lots>1e9)
      return(false);
   forecast.p_up=json.ListItem("p_up",steps-1);
   forecast.mean=json.ListItem("mean",steps-1);
   return(true);
  }
//+------------------------------------------------------------------+
void BeginMessage(CJsonWriter &out,const string type,const long epoch,const long seq,const long re)
  {
   out.Clear();
   out.AddInteger("v",PROTOCOL_VERSION);
   out.AddString("type",type);
   out.AddInteger("epoch",epoch);
   out.AddInteger("seq",seq);
   out.AddInteger("re",re);
   out.AddInteger("ts_ms",(long)TimeGMT()*1000);
  }
//+------------------------------------------------------------------+
string ProofOf(const string side,const string challenge,const string nonce,const string secret)
  {
   return(Sha256Hex("tunetrade1|"+side+"|"+challenge+"|"+nonce+"|"+secret));
  }
//+------------------------------------------------------------------+
// 32 hex digits nobody can foretell well enough to matter on loopback: a hash of clocks and of the generator.
string FreshNonce(const string salt)
  {
   string seed=salt+"|"+IntegerToString((long)GetMicrosecondCount())+"|"+IntegerToString((long)TimeLocal());
   for(int i=0; i<8; i++)
      seed+="|"+IntegerToString(MathRand());
   return(StringSubstr(Sha256Hex(seed),0,32));
  }
//+------------------------------------------------------------------+
// At most so many characters, as texts of the protocol have to be.
string Shortened(const string text,const int most)
  {
   return(StringLen(text)>most ? StringSubstr(text,0,most) : text);
  }
#endif
//+------------------------------------------------------------------+
