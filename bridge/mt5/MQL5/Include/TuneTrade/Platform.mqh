//+------------------------------------------------------------------+
//|                                                     Platform.mqh |
//|     Whether this terminal does what the rest takes for granted   |
//+------------------------------------------------------------------+
// Where the reference leaves room (an exponent in a number, the zero at the end of a text's bytes, which day is Sunday) a
// terminal that reads it otherwise would misread prices, sizes or times. It is asked once, before anything is traded.
#ifndef TUNETRADE_PLATFORM_MQH
#define TUNETRADE_PLATFORM_MQH
#include <TuneTrade/Clock.mqh>
#include <TuneTrade/Json.mqh>
#include <TuneTrade/Sha256.mqh>
//+------------------------------------------------------------------+
bool KeepsUtf8(void)
  {
   string text="a"+ShortToString(0x20AC)+"b";
   uchar bytes[];
   if(StringToCharArray(text,bytes,0,WHOLE_ARRAY,CP_UTF8)!=6 || bytes[1]!=0xE2)
      return(false);
   return(CharArrayToString(bytes,0,5,CP_UTF8)==text && CharArrayToString(bytes,1,3,CP_UTF8)==ShortToString(0x20AC));
  }
//+------------------------------------------------------------------+
bool ReadsNumbers(void)
  {
   long large=9007199254740991;
   bool reads=(StringToDouble("5e-05")==0.00005 && StringToDouble("-1.25E+2")==-125.0);
   bool writes=(StringToDouble(StringFormat("%.17g",0.1))==0.1 && StringFormat("%I64d",large)=="9007199254740991");
   return(reads && writes && StringToInteger("9007199254740991")==large && JsonNumber(1e-05,5)=="0.00001");
  }
//+------------------------------------------------------------------+
bool SplitsTexts(void)
  {
   string words[];
   return(StringSplit("a;;b",';',words)==3 && words[1]=="" && words[2]=="b" && StringSubstr("abc",1,1)=="b");
  }
//+------------------------------------------------------------------+
bool MovesArrays(void)
  {
   uchar from[];
   uchar to[];
   ArrayResize(from,3);
   ArrayResize(to,3);
   for(int i=0; i<3; i++)
     {
      from[i]=(uchar)(i+1);
      to[i]=9;
     }
   return(ArrayCopy(to,from,1,2,1)==1 && to[0]==9 && to[1]==3 && to[2]==9);
  }
//+------------------------------------------------------------------+
// What it does otherwise; "" for nothing.
string Unlike(void)
  {
   if(!ReadsNumbers())
      return("numbers as texts");
   if(!KeepsUtf8())
      return("texts as UTF-8");
   if(!SplitsTexts())
      return("parts of texts");
   if(!MovesArrays())
      return("copies of arrays");
   if(Sha256Hex("abc")!="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
      return("SHA-256");
   if(NthSunday(2024,3,0)!=D'2024.03.31' || NthSunday(2023,11,1)!=D'2023.11.05')
      return("days of the week");
   return("");
  }
#endif
//+------------------------------------------------------------------+
