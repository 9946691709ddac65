//+------------------------------------------------------------------+
//|                                                        Clock.mqh |
//|     Broker's time <-> UTC, also of bars before the last change   |
//+------------------------------------------------------------------+
// The terminal tells the broker's offset of this moment only. A backfill reaches back over changes of daylight saving,
// so which rule the broker's clock follows is an input.
#ifndef TUNETRADE_CLOCK_MQH
#define TUNETRADE_CLOCK_MQH

enum ENUM_BROKER_CLOCK
  {
   CLOCK_NEW_YORK=0,   // changes with the United States
   CLOCK_EUROPE=1,     // changes with the European Union
   CLOCK_FIXED=2       // never changes
  };

#define CLOCK_HOUR 3600
#define CLOCK_DAY  86400
//+------------------------------------------------------------------+
// Midnight of the n-th Sunday of a month; n=0 is its last.
datetime NthSunday(const int year,const int month,const int n)
  {
   MqlDateTime parts;
   ZeroMemory(parts);
   parts.year=(n==0 && month==12 ? year+1 : year);
   parts.mon=(n==0 ? month%12+1 : month);
   parts.day=1;
   datetime first=StructToTime(parts);
   MqlDateTime filled;
   ZeroMemory(filled);
   TimeToStruct(first,filled);
   datetime sunday=first+((7-filled.day_of_week)%7)*CLOCK_DAY;
   return(sunday+(n-1)*7*CLOCK_DAY);
  }
//+------------------------------------------------------------------+
// Seconds by which summer time is ahead at a moment of UTC.
long SummerTime(const ENUM_BROKER_CLOCK clock,const datetime utc)
  {
   if(clock==CLOCK_FIXED)
      return(0);
   MqlDateTime parts;
   ZeroMemory(parts);
   TimeToStruct(utc,parts);
   datetime begins=0;
   datetime ends=0;
   if(clock==CLOCK_NEW_YORK)
     {
      begins=NthSunday(parts.year,3,2)+7*CLOCK_HOUR;
      ends=NthSunday(parts.year,11,1)+6*CLOCK_HOUR;
     }
   else
     {
      begins=NthSunday(parts.year,3,0)+CLOCK_HOUR;
      ends=NthSunday(parts.year,10,0)+CLOCK_HOUR;
     }
   return(utc>=begins && utc<ends ? CLOCK_HOUR : 0);
  }
//+------------------------------------------------------------------+
// The broker's time less UTC now, to a quarter of an hour.
long OffsetNow(void)
  {
   double apart=(double)((long)TimeTradeServer()-(long)TimeGMT());
   return((long)MathRound(apart/900.0)*900);
  }
//+------------------------------------------------------------------+
long UtcOf(const datetime broker,const ENUM_BROKER_CLOCK clock)
  {
   long winter=OffsetNow()-SummerTime(clock,TimeGMT());
   datetime about=(datetime)((long)broker-winter);
   return((long)broker-winter-SummerTime(clock,(datetime)((long)about-SummerTime(clock,about))));
  }
//+------------------------------------------------------------------+
// Close of the bar that opens then, in UTC, ms (PROTOCOL.md, Times).
long CloseMs(const datetime opens,const ENUM_TIMEFRAMES period,const ENUM_BROKER_CLOCK clock)
  {
   long length=PeriodSeconds(period);
   if(length<=CLOCK_HOUR)
      return((UtcOf(opens,clock)+length)*1000);
   if(period==PERIOD_W1)
      length=6*CLOCK_DAY;
   return(UtcOf((datetime)((long)opens+length),clock)*1000);
  }
//+------------------------------------------------------------------+
long NowMs(void)
  {
   return((long)TimeGMT()*1000);
  }
//+------------------------------------------------------------------+
// Minutes since midnight of "HH:MM"; -1 where it is something else.
int MinuteOfDay(const string text)
  {
   if(StringLen(text)!=5 || StringSubstr(text,2,1)!=":")
      return(-1);
   for(int i=0; i<5; i++)
     {
      ushort c=StringGetCharacter(text,i);
      if(i!=2 && (c<'0' || c>'9'))
         return(-1);
     }
   int minutes=(int)StringToInteger(StringSubstr(text,0,2))*60+(int)StringToInteger(StringSubstr(text,3,2));
   return(StringToInteger(StringSubstr(text,3,2))<60 && minutes<=1440 ? minutes : -1);
  }
//+------------------------------------------------------------------+
// "HH:MM-HH:MM", the first within, the last without; it may run over midnight. "" is always.
bool WithinHours(const string span,const datetime broker)
  {
   if(span=="")
      return(true);
   int first=MinuteOfDay(StringSubstr(span,0,5));
   int last=MinuteOfDay(StringSubstr(span,6));
   int minute=(int)(((long)broker%CLOCK_DAY)/60);
   if(first<=last)
      return(minute>=first && minute<last);
   return(minute>=first || minute<last);
  }
//+------------------------------------------------------------------+
bool ValidSpan(const string span)
  {
   return(span=="" || (StringLen(span)==11 && StringSubstr(span,5,1)=="-" && MinuteOfDay(StringSubstr(span,0,5))>=0 && MinuteOfDay(StringSubstr(span,6))>=0));
  }
//+------------------------------------------------------------------+
// From that time on Friday to Saturday's end, by the broker's clock. "" is never.
bool WeekendAhead(const string from,const datetime broker)
  {
   if(from=="")
      return(false);
   MqlDateTime parts;
   ZeroMemory(parts);
   TimeToStruct(broker,parts);
   return(parts.day_of_week==6 || (parts.day_of_week==5 && parts.hour*60+parts.min>=MinuteOfDay(from)));
  }
//+------------------------------------------------------------------+
// The last second of the bar that holds a moment. Of bars longer than a day, which no clock cuts so, the moment itself.
datetime LastSecond(const datetime broker,const ENUM_TIMEFRAMES period)
  {
   long length=PeriodSeconds(period);
   return(length>CLOCK_DAY ? broker : (datetime)((long)broker-(long)broker%length+length-1));
  }
#endif
//+------------------------------------------------------------------+
