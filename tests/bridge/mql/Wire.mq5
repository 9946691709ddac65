//+------------------------------------------------------------------+
//|                                                         Wire.mq5 |
//|          The wire's own parts under test: ZMTP, JSON, SHA-256    |
//+------------------------------------------------------------------+
#property copyright "TuneTrade"
#property version   "1.00"
#include <TuneTrade/Zmtp.mqh>
#include <TuneTrade/Json.mqh>
#include <TuneTrade/Sha256.mqh>
#include <TuneTrade/Clock.mqh>

enum ENUM_WIRE_TEST
  {
   WIRE_SPLIT=0,      // a stream of bytes, cut in two at every offset
   WIRE_JSON=1,       // lines of hex, each an object or not
   WIRE_HASH=2,       // lines of text
   WIRE_TALK=3,       // a live peer
   WIRE_FUZZ=4,       // random and mutated bytes at both parsers
   WIRE_CLOCK=5      // lines: clock, broker's time, length of a bar, span, Friday's hour
  };

input group "Test"
input ENUM_WIRE_TEST InpTest=WIRE_SPLIT; // What
input string         InpFile="wire.bin"; // Bytes
input string         InpIdentity="";     // Identity
input string         InpType="DEALER";   // Socket
input uint           InpPort=0;          // Port
input int            InpCount=1;         // Messages
input int            InpSize=0;          // Least size of a message
input bool           InpEmpty=false;     // An empty frame first, as REP asks for
input uint           InpBackoff=1000;    // Least backoff

CZmtpDealer g_link;
int         g_sent=0;
int         g_got=0;
bool        g_subscribed=false;
//+------------------------------------------------------------------+
bool ReadAll(const string name,uchar &bytes[])
  {
   int file=FileOpen(name,FILE_READ|FILE_BIN);
   if(file==INVALID_HANDLE)
      return(false);
   FileReadArray(file,bytes);
   FileClose(file);
   return(true);
  }
//+------------------------------------------------------------------+
string Shown(CZmtpCodec &codec)
  {
   string out="";
   uchar frame[];
   int size=0;
   while(codec.Messages()>0)
     {
      bool more=codec.TakeFrame(frame,size);
      out+=HexOf(frame)+(more ? "," : ";");
     }
   uchar unsent[];
   codec.CopyUnsent(unsent,1048576);
   return(out+" "+HexOf(unsent)+" "+IntegerToString((int)codec.State())+" "+codec.Reason());
  }
//+------------------------------------------------------------------+
void TestSplit(void)
  {
   uchar bytes[];
   if(!ReadAll(InpFile,bytes))
      return;
   int size=ArraySize(bytes);
   string whole="";
   int differ=0;
   for(int cut=0; cut<=size; cut++)
     {
      CZmtpCodec codec;
      codec.Start(InpType,InpIdentity);
      if(codec.Feed(bytes,0,cut) && cut<size)
         codec.Feed(bytes,cut,size-cut);
      string shown=Shown(codec);
      if(cut==0)
         whole=shown;
      if(shown!=whole)
         differ++;
     }
   Print("whole ",whole);
   Print("differ ",differ," of ",size+1);
  }
//+------------------------------------------------------------------+
int FromHex(const string text,uchar &bytes[])
  {
   int size=StringLen(text)/2;
   ArrayResize(bytes,size);
   string digits="0123456789abcdef";
   for(int i=0; i<size; i++)
      bytes[i]=(uchar)(16*StringFind(digits,StringSubstr(text,2*i,1))+StringFind(digits,StringSubstr(text,2*i+1,1)));
   return(size);
  }
//+------------------------------------------------------------------+
void TestJson(void)
  {
   int file=FileOpen(InpFile,FILE_READ|FILE_TXT|FILE_ANSI,'\t',CP_UTF8);
   if(file==INVALID_HANDLE)
      return;
   CJson json;
   while(!FileIsEnding(file))
     {
      uchar bytes[];
      int size=FromHex(FileReadString(file),bytes);
      if(!json.Parse(bytes,size))
        {
         Print("no");
         continue;
        }
      CJsonWriter again;
      string text="";
      double number=0.0;
      long whole=0;
      bool flag=false;
      if(json.GetString("s",text))
         again.AddString("s",text);
      if(json.GetNumber("n",number))
         again.AddNumber("n",number,5);
      if(json.GetInteger("i",whole))
         again.AddInteger("i",whole);
      if(json.GetBool("b",flag))
         again.AddBool("b",flag);
      if(json.IsNull("z"))
         again.AddNull("z");
      string items="";
      for(int i=0; i<json.ListSize("l"); i++)
         items+=(i>0 ? "," : "")+JsonNumber(json.ListItem("l",i),5);
      if(json.ListSize("l")>=0)
         again.AddRaw("l","["+items+"]");
      again.AddInteger("fields",json.Fields());
      Print("yes ",again.Text());
     }
   FileClose(file);
  }
//+------------------------------------------------------------------+
void TestHash(void)
  {
   int file=FileOpen(InpFile,FILE_READ|FILE_TXT|FILE_ANSI,'\t',CP_UTF8);
   if(file==INVALID_HANDLE)
      return;
   while(!FileIsEnding(file))
      Print(Sha256Hex(FileReadString(file)));
   FileClose(file);
  }
//+------------------------------------------------------------------+
void TestClock(void)
  {
   int file=FileOpen(InpFile,FILE_READ|FILE_TXT|FILE_ANSI,'\t',CP_UTF8);
   if(file==INVALID_HANDLE)
      return;
   while(!FileIsEnding(file))
     {
      string words[];
      if(StringSplit(FileReadString(file),' ',words)!=5)
         continue;
      ENUM_BROKER_CLOCK clock=(ENUM_BROKER_CLOCK)StringToInteger(words[0]);
      datetime broker=(datetime)StringToInteger(words[1]);
      string said=IntegerToString(CloseMs(broker,(ENUM_TIMEFRAMES)StringToInteger(words[2]),clock));
      said+=(WithinHours(words[3],broker) ? " open" : " shut");
      Print(said,WeekendAhead(words[4],broker) ? " weekend" : " week",ValidSpan(words[3]) ? "" : " wrong");
     }
   FileClose(file);
  }
//+------------------------------------------------------------------+
int Random(const int below)
  {
   return((MathRand()*32768+MathRand())%below);
  }
//+------------------------------------------------------------------+
// Each round takes the seed bytes, changes some, and feeds them in pieces; neither parser may crash or grow.
void TestFuzz(void)
  {
   uchar stream[];
   uchar object[];
   if(!ReadAll(InpFile,stream) || !ReadAll("object.json",object))
      return;
   CJson json;
   CZmtpCodec codec;
   int taken=0;
   int parsed=0;
   int broken=0;
   for(int round=0; round<InpCount; round++)
     {
      uchar bytes[];
      ArrayCopy(bytes,object);
      int size=ArraySize(bytes);
      int changes=Random(4);
      for(int i=0; i<changes; i++)
         bytes[Random(size)]=(uchar)Random(256);
      if(json.Parse(bytes,1+Random(size)) || json.Parse(bytes,size))
         parsed++;
      uchar wire[];
      ArrayCopy(wire,stream);
      size=ArraySize(wire);
      if(round%8==7)
         for(int i=0; i<size; i++)
            wire[i]=(uchar)Random(256);
      changes=Random(4);
      for(int i=0; i<changes; i++)
         wire[Random(size)]=(uchar)Random(256);
      codec.Start("DEALER","fuzz");
      int at=0;
      bool alive=true;
      while(alive && at<size)
        {
         int piece=MathMin(1+Random(40),size-at);
         alive=codec.Feed(wire,at,piece);
         at+=piece;
         while(codec.Messages()>0)
           {
            codec.SkipMessage();
            taken++;
           }
        }
      if(!alive)
         broken++;
     }
   Print("rounds ",InpCount," parsed ",parsed," messages ",taken," refused ",broken);
  }
//+------------------------------------------------------------------+
string Body(const int number)
  {
   string text=IntegerToString(number)+" zażółć €";
   while(StringLen(text)<InpSize)
      text+="x";
   return(text);
  }
//+------------------------------------------------------------------+
int OnInit(void)
  {
   if(InpTest==WIRE_SPLIT)
      TestSplit();
   if(InpTest==WIRE_JSON)
      TestJson();
   if(InpTest==WIRE_HASH)
      TestHash();
   if(InpTest==WIRE_CLOCK)
      TestClock();
   if(InpTest==WIRE_FUZZ)
      TestFuzz();
   if(InpTest!=WIRE_TALK)
     {
      ExpertRemove();
      return(INIT_SUCCEEDED);
     }
   g_link.SetBackoff(InpBackoff,30000);
   g_link.Open("127.0.0.1",InpPort,InpType,InpIdentity);
   EventSetMillisecondTimer(1);
   return(INIT_SUCCEEDED);
  }
//+------------------------------------------------------------------+
// Says one number at a time, and the next when that has come back. A subscriber only listens.
void OnTimer(void)
  {
   string before=g_link.Reason();
   bool connected=g_link.Pump();
   if(!connected && before!=g_link.Reason())
      Print("lost ",g_link.Reason());
   if(!g_link.IsOpen())
     {
      g_sent=g_got;
      g_subscribed=false;
      return;
     }
   if(InpType=="SUB" && !g_subscribed)
      g_subscribed=g_link.Subscribe("EURUSD");
   while(g_link.Messages()>0)
     {
      string text="";
      bool more=true;
      while(more)
        {
         uchar bytes[];
         int size=0;
         more=g_link.TakeFrame(bytes,size);
         text+=(size>80 ? "<"+IntegerToString(size)+">" : CharArrayToString(bytes,0,size,CP_UTF8))+(more ? "|" : "");
        }
      Print("got ",text);
      g_got++;
     }
   if(g_got>=InpCount)
     {
      Print("pings ",g_link.Pings()," connections ",g_link.Connections());
      ExpertRemove();
      return;
     }
   if(InpType=="SUB" || g_sent>g_got)
      return;
   int skip=(InpEmpty ? 1 : 0);
   string parts[];
   ArrayResize(parts,2+skip);
   parts[0]="";
   parts[skip]="say";
   parts[skip+1]=Body(g_got);
   if(g_link.SendParts(parts))
      g_sent=g_got+1;
  }
//+------------------------------------------------------------------+
