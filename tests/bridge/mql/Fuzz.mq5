//+------------------------------------------------------------------+
//|                                                         Fuzz.mq5 |
//|    Mutated streams and messages at the parsers of the Expert     |
//+------------------------------------------------------------------+
// A case is a seed that was cut, flipped, spliced with another, repeated or given something nasty, or random bytes. A
// parser may refuse it; it may not crash, grow, or let through what breaks its own promises.
#property copyright "TuneTrade"
#property version   "1.00"
#include <TuneTrade/Zmtp.mqh>
#include <TuneTrade/Protocol.mqh>

input group "Test"
input bool           InpStreams=false;   // ZMTP, else messages
input int            InpCount=1000;      // Cases
input long           InpSeed=1;          // Seed

struct SCase
  {
   uchar             data[];
  };

SCase g_seeds[];
SCase g_nasty[];
ulong g_state=1;
int   g_wrong=0;
//+------------------------------------------------------------------+
// xorshift64*, S. Vigna 2016
int Random(const int below)
  {
   g_state^=g_state>>12;
   g_state^=g_state<<25;
   g_state^=g_state>>27;
   return((int)(((g_state*2685821657736338717)>>33)%(ulong)below));
  }
//+------------------------------------------------------------------+
int Digit(const ushort c)
  {
   return(c<='9' ? (int)c-'0' : (int)c-'a'+10);
  }
//+------------------------------------------------------------------+
bool Load(const string name,SCase &cases[])
  {
   int file=FileOpen(name,FILE_READ|FILE_TXT|FILE_ANSI,'\t',CP_UTF8);
   if(file==INVALID_HANDLE)
      return(false);
   while(!FileIsEnding(file))
     {
      string line=FileReadString(file);
      int at=ArraySize(cases);
      int size=StringLen(line)/2;
      ArrayResize(cases,at+1);
      ArrayResize(cases[at].data,size);
      for(int i=0; i<size; i++)
         cases[at].data[i]=(uchar)(16*Digit(StringGetCharacter(line,2*i))+Digit(StringGetCharacter(line,2*i+1)));
     }
   FileClose(file);
   return(ArraySize(cases)>0);
  }
//+------------------------------------------------------------------+
void Append(uchar &to[],const uchar &from[],const int at,const int count)
  {
   if(count<=0)
      return;
   int size=ArraySize(to);
   ArrayResize(to,size+count,4096);
   ArrayCopy(to,from,size,at,count);
  }
//+------------------------------------------------------------------+
void Mutate(uchar &bytes[])
  {
   uchar old[];
   int size=ArraySize(bytes);
   if(size>0)
      ArrayCopy(old,bytes,0,0,size);
   int at=Random(size+1);
   int to=at+Random(size-at+1);
   ArrayResize(bytes,0);
   Append(bytes,old,0,at);
   int kind=Random(6);
   if(kind==0)                          // cut out
      Append(bytes,old,to,size-to);
   if(kind==1 && at<size)               // flip
     {
      uchar other[1];
      other[0]=(uchar)Random(256);
      Append(bytes,other,0,1);
      Append(bytes,old,at+1,size-at-1);
     }
   if(kind==2)                          // something nasty
     {
      int which=Random(ArraySize(g_nasty));
      Append(bytes,g_nasty[which].data,0,ArraySize(g_nasty[which].data));
      Append(bytes,old,at,size-at);
     }
   if(kind==3)                          // a piece of another
     {
      int which=Random(ArraySize(g_seeds));
      int length=ArraySize(g_seeds[which].data);
      int from=Random(length+1);
      Append(bytes,g_seeds[which].data,from,Random(length-from+1));
      Append(bytes,old,at,size-at);
     }
   if(kind==4)                          // the same again and again, now and then beyond every limit
     {
      int times=(Random(500)==0 ? 1+400000/(to-at+1) : 1+Random(20));
      for(int i=0; i<times; i++)
         Append(bytes,old,at,to-at);
      Append(bytes,old,to,size-to);
     }
  }                                     // kind 5: truncated
//+------------------------------------------------------------------+
void MakeCase(uchar &bytes[])
  {
   ArrayResize(bytes,0);
   if(Random(20)==0)
     {
      ArrayResize(bytes,Random(300));
      for(int i=0; i<ArraySize(bytes); i++)
         bytes[i]=(uchar)Random(256);
      return;
     }
   int which=Random(ArraySize(g_seeds));
   Append(bytes,g_seeds[which].data,0,ArraySize(g_seeds[which].data));
   int changes=Random(4);
   for(int i=0; i<changes; i++)
      Mutate(bytes);
  }
//+------------------------------------------------------------------+
void Broken(const string what)
  {
   g_wrong++;
   if(g_wrong<10)
      Print("wrong ",what);
  }
//+------------------------------------------------------------------+
// Whether a message was one that the Expert would act on.
bool OneMessage(CJson &json,const uchar &bytes[])
  {
   if(!json.Parse(bytes,ArraySize(bytes)))
     {
      if(json.Reason()=="" || json.Fields()!=0)
         Broken("refused without a reason, or with fields");
      return(false);
     }
   string type="";
   SHead head;
   SForecast forecast;
   ZeroMemory(head);
   ZeroMemory(forecast);
   if(!json.GetString("type",type) || !ReadHead(json,type,head))
      return(false);
   double number=0.0;
   if(json.GetNumber("close_ref",number) && !MathIsValidNumber(number))
      Broken("a number that is none");
   for(int i=0; i<json.ListSize("mean"); i++)
      if(!MathIsValidNumber(json.ListItem("mean",i)))
         Broken("a list with a number that is none");
   if(type!="forecast" && type!="snapshot")
      return(true);
   if(!ReadForecast(json,head,forecast))
      return(false);
   if(!(MathAbs(forecast.position)<=1.0) || !(forecast.lots>=0.0) || !(forecast.lots<=1e9))
      Broken("a target out of bounds");
   if(!(forecast.stop>=0.0) || !(forecast.take_profit>=0.0) || !(forecast.trailing>=0.0) || !(forecast.close_ref>0.0))
      Broken("a price out of bounds");
   return(true);
  }
//+------------------------------------------------------------------+
// Messages taken out of a stream that is fed in pieces; -1 where it was refused.
int OneStream(CZmtpCodec &codec,const uchar &bytes[])
  {
   codec.Start("DEALER","fuzz");
   int size=ArraySize(bytes);
   int taken=0;
   for(int at=0; at<size;)
     {
      int piece=MathMin(1+Random(Random(8)==0 ? 70000 : 60),size-at);
      bool alive=codec.Feed(bytes,at,piece);
      at+=piece;
      while(codec.Messages()>0)
        {
         uchar frame[];
         int length=0;
         bool more=true;
         while(more)
           {
            more=codec.TakeFrame(frame,length);
            if(length>ZMTP_MAX_FRAME || length!=ArraySize(frame))
               Broken("a frame out of bounds");
           }
         taken++;
        }
      if(codec.Unsent()>ZMTP_MAX_UNSENT)
         Broken("answers beyond their limit");
      if(!alive)
        {
         if(codec.Reason()=="" || codec.State()!=ZMTP_CLOSED)
            Broken("refused without a reason, or still open");
         return(-1);
        }
     }
   return(taken);
  }
//+------------------------------------------------------------------+
int OnInit(void)
  {
   if(!Load("seeds.txt",g_seeds) || !Load("nasty.txt",g_nasty))
      return(INIT_FAILED);
   g_state=(ulong)InpSeed*0x9E3779B97F4A7C15+1;
   CJson json;
   CZmtpCodec codec;
   int taken=0;
   int refused=0;
   for(int i=0; i<InpCount; i++)
     {
      uchar bytes[];
      MakeCase(bytes);
      if(InpStreams)
        {
         int messages=OneStream(codec,bytes);
         taken+=MathMax(messages,0);
         refused+=(messages<0 ? 1 : 0);
        }
      else
         if(OneMessage(json,bytes))
            taken++;
         else
            refused++;
      if((i+1)%(InpCount/10)==0)
         Print("at ",i+1);
     }
   Print("cases ",InpCount," taken ",taken," refused ",refused," wrong ",g_wrong);
   ExpertRemove();
   return(INIT_SUCCEEDED);
  }
//+------------------------------------------------------------------+
void OnTimer(void)
  {
  }
//+------------------------------------------------------------------+
