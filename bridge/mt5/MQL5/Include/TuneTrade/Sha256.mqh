//+------------------------------------------------------------------+
//|                                                       Sha256.mqh |
//|                        SHA-256 of texts, by the terminal's own   |
//+------------------------------------------------------------------+
#ifndef TUNETRADE_SHA256_MQH
#define TUNETRADE_SHA256_MQH
//+------------------------------------------------------------------+
string HexOf(const uchar &bytes[])
  {
   string hex="";
   for(int i=0; i<ArraySize(bytes); i++)
      hex+=StringFormat("%02x",(int)bytes[i]);
   return(hex);
  }
//+------------------------------------------------------------------+
// Lower-case hex of SHA-256 of the text in UTF-8; "" where the terminal refuses.
string Sha256Hex(const string text)
  {
   uchar bytes[];
   uchar key[];
   uchar hash[];
   int size=StringToCharArray(text,bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   ArrayResize(bytes,MathMax(size,0));        // without the terminating zero
   ArrayResize(key,1);
   key[0]=0;                                  // a hash has no key
   if(CryptEncode(CRYPT_HASH_SHA256,bytes,key,hash)!=32)
      return("");
   return(HexOf(hash));
  }
#endif
//+------------------------------------------------------------------+
