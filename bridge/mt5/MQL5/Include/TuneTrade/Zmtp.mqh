//+------------------------------------------------------------------+
//|                                                         Zmtp.mqh |
//|      ZMTP 3.1 client over the terminal's own sockets, no DLL     |
//+------------------------------------------------------------------+
// Two layers. CZmtpCodec turns bytes into messages and back and knows no socket, so it can be fed byte by byte.
// CZmtpDealer drives it over a socket: connects again with backoff, keeps what a send left over, never waits.
// https://rfc.zeromq.org/spec/37
#ifndef TUNETRADE_ZMTP_MQH
#define TUNETRADE_ZMTP_MQH

#define ZMTP_FLAG_MORE     0x01
#define ZMTP_FLAG_LONG     0x02
#define ZMTP_FLAG_COMMAND  0x04
#define ZMTP_GREETING_SIZE 64
#define ZMTP_CHUNK         65536
#define ZMTP_MAX_FRAME     262144
#define ZMTP_MAX_PARTS     8
#define ZMTP_MAX_WAITING   256
#define ZMTP_MAX_UNSENT    4194304
#define ZMTP_CONNECT_MS    250
#define ZMTP_SEND_MS       100
#define ZMTP_HANDSHAKE_MS  3000
#define ZMTP_HELD_UP_MS    50

enum ENUM_ZMTP_STATE
  {
   ZMTP_CLOSED=0,      // no connection
   ZMTP_GREETING=1,    // waiting for the peer's 64 bytes
   ZMTP_HANDSHAKE=2,   // waiting for READY
   ZMTP_OPEN=3         // messages flow
  };

struct SZmtpFrame
  {
   uchar             data[];
   int               size;
   bool              more;
  };
//+------------------------------------------------------------------+
class CZmtpCodec
  {
private:
   ENUM_ZMTP_STATE   m_state;
   string            m_type;
   string            m_identity;
   string            m_reason;
   uchar             m_rx[];
   int               m_rx_at;
   int               m_rx_end;
   uchar             m_tx[];
   int               m_tx_at;
   int               m_tx_end;
   SZmtpFrame        m_queue[];
   int               m_queue_at;
   int               m_queue_end;
   int               m_messages;
   int               m_parts;
   int               m_pings;

   bool              Fail(const string reason);
   void              Put(const int byte_value);
   void              PutBytes(const uchar &bytes[],const int count);
   void              PutText(const string text);
   void              PutHeader(const int flags,const int size);
   void              SendGreeting(void);
   void              SendReady(void);
   bool              OnGreeting(void);
   bool              OnFrames(void);
   bool              OnCommand(const int at,const int size);
   bool              OnReady(const int at,const int end);
   bool              OnPing(const int at,const int end);
   bool              RxIs(const int at,const int size,const string text) const;
   void              Enqueue(const int at,const int size,const bool more);

public:
                     CZmtpCodec(void);
   void              Start(const string socket_type,const string identity);
   void              Stop(void);
   bool              Feed(const uchar &bytes[],const int from,const int count);
   int               Unsent(void) const { return(m_tx_end-m_tx_at); }
   int               CopyUnsent(uchar &bytes[],const int limit) const;
   void              Sent(const int count);
   bool              Begin(const int bytes_to_come);
   void              AddFrame(const string text,const bool more);
   bool              Subscribe(const string topic);
   int               Messages(void) const { return(m_messages); }
   int               FrameSize(void) const;
   bool              TakeFrame(uchar &bytes[],int &size);
   void              SkipMessage(void);
   ENUM_ZMTP_STATE   State(void) const { return(m_state); }
   string            Reason(void) const { return(m_reason); }
   int               Pings(void) const { return(m_pings); }
  };
//+------------------------------------------------------------------+
CZmtpCodec::CZmtpCodec(void)
  {
   m_type="DEALER";
   m_identity="";
   m_reason="";
   m_pings=0;
   m_queue_at=0;
   m_queue_end=0;
   Stop();
  }
//+------------------------------------------------------------------+
void CZmtpCodec::Stop(void)
  {
   m_state=ZMTP_CLOSED;
   m_rx_at=0;
   m_rx_end=0;
   m_tx_at=0;
   m_tx_end=0;
   for(int i=m_queue_at; i<m_queue_end; i++)
      ArrayFree(m_queue[i].data);        // frames nobody has taken
   m_queue_at=0;
   m_queue_end=0;
   m_messages=0;
   m_parts=0;
  }
//+------------------------------------------------------------------+
void CZmtpCodec::Start(const string socket_type,const string identity)
  {
   Stop();
   m_type=socket_type;
   m_identity=identity;
   m_reason="";
   m_state=ZMTP_GREETING;
   SendGreeting();
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::Fail(const string reason)
  {
   Stop();
   m_reason=reason;
   return(false);
  }
//+------------------------------------------------------------------+
//| What waits to be sent                                            |
//+------------------------------------------------------------------+
void CZmtpCodec::Put(const int byte_value)
  {
   if(ArraySize(m_tx)<m_tx_end+1)
      ArrayResize(m_tx,m_tx_end+1,ZMTP_CHUNK);
   m_tx[m_tx_end]=(uchar)byte_value;
   m_tx_end++;
  }
//+------------------------------------------------------------------+
void CZmtpCodec::PutBytes(const uchar &bytes[],const int count)
  {
   if(count<=0)
      return;
   if(ArraySize(m_tx)<m_tx_end+count)
      ArrayResize(m_tx,m_tx_end+count,ZMTP_CHUNK);
   ArrayCopy(m_tx,bytes,m_tx_end,0,count);
   m_tx_end+=count;
  }
//+------------------------------------------------------------------+
void CZmtpCodec::PutText(const string text)
  {
   uchar bytes[];
   PutBytes(bytes,StringToCharArray(text,bytes,0,WHOLE_ARRAY,CP_UTF8)-1);
  }
//+------------------------------------------------------------------+
void CZmtpCodec::PutHeader(const int flags,const int size)
  {
   if(size<256)
     {
      Put(flags);
      Put(size);
      return;
     }
   Put(flags|ZMTP_FLAG_LONG);
   long wide=size;
   for(int shift=56; shift>=0; shift-=8)
      Put((int)((wide>>shift)&0xFF));
  }
//+------------------------------------------------------------------+
int CZmtpCodec::CopyUnsent(uchar &bytes[],const int limit) const
  {
   int count=MathMin(limit,m_tx_end-m_tx_at);
   if(count>0)
      ArrayCopy(bytes,m_tx,0,m_tx_at,count);
   return(count);
  }
//+------------------------------------------------------------------+
void CZmtpCodec::Sent(const int count)
  {
   m_tx_at+=count;
   if(m_tx_at<m_tx_end)
      return;
   m_tx_at=0;
   m_tx_end=0;
  }
//+------------------------------------------------------------------+
void CZmtpCodec::SendGreeting(void)
  {
   Put(0xFF);
   for(int i=0; i<8; i++)
      Put(0);
   Put(0x7F);
   Put(3);
   Put(1);
   PutText("NULL");
   while(m_tx_end<ZMTP_GREETING_SIZE)
      Put(0);
  }
//+------------------------------------------------------------------+
void CZmtpCodec::SendReady(void)
  {
   uchar type[];
   uchar identity[];
   int type_size=StringToCharArray(m_type,type,0,WHOLE_ARRAY,CP_UTF8)-1;
   int identity_size=StringToCharArray(m_identity,identity,0,WHOLE_ARRAY,CP_UTF8)-1;
   bool named=(identity_size>0 && m_type=="DEALER");
   int size=6+1+11+4+type_size;
   if(named)
      size+=1+8+4+identity_size;
   PutHeader(ZMTP_FLAG_COMMAND,size);
   Put(5);
   PutText("READY");
   Put(11);
   PutText("Socket-Type");
   Put(0);
   Put(0);
   Put(0);
   Put(type_size);
   PutBytes(type,type_size);
   if(!named)
      return;
   Put(8);
   PutText("Identity");
   Put(0);
   Put(0);
   Put(0);
   Put(identity_size);
   PutBytes(identity,identity_size);
  }
//+------------------------------------------------------------------+
// Whether a message may be begun now; frames follow by AddFrame.
bool CZmtpCodec::Begin(const int bytes_to_come)
  {
   return(m_state==ZMTP_OPEN && Unsent()+bytes_to_come<=ZMTP_MAX_UNSENT);
  }
//+------------------------------------------------------------------+
void CZmtpCodec::AddFrame(const string text,const bool more)
  {
   uchar bytes[];
   int size=StringToCharArray(text,bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   PutHeader(more ? ZMTP_FLAG_MORE : 0,MathMax(size,0));
   PutBytes(bytes,size);
  }
//+------------------------------------------------------------------+
// As a command, which 3.1 brought. Of a SUB that has finished its handshake.
bool CZmtpCodec::Subscribe(const string topic)
  {
   if(m_state!=ZMTP_OPEN || m_type!="SUB")
      return(false);
   uchar bytes[];
   int size=StringToCharArray(topic,bytes,0,WHOLE_ARRAY,CP_UTF8)-1;
   PutHeader(ZMTP_FLAG_COMMAND,10+MathMax(size,0));
   Put(9);
   PutText("SUBSCRIBE");
   PutBytes(bytes,size);
   return(true);
  }
//+------------------------------------------------------------------+
//| What came in                                                     |
//+------------------------------------------------------------------+
// False once the peer has broken the protocol; then Reason says how.
bool CZmtpCodec::Feed(const uchar &bytes[],const int from,const int count)
  {
   if(m_state==ZMTP_CLOSED)
      return(false);
   if(count>0)
     {
      if(m_rx_at==m_rx_end)
        {
         m_rx_at=0;
         m_rx_end=0;
        }
      if(m_rx_at>ZMTP_CHUNK)
        {
         for(int i=m_rx_at; i<m_rx_end; i++)     // ArrayCopy onto itself is not to be relied on
            m_rx[i-m_rx_at]=m_rx[i];
         m_rx_end-=m_rx_at;
         m_rx_at=0;
        }
      if(ArraySize(m_rx)<m_rx_end+count)
         ArrayResize(m_rx,m_rx_end+count,ZMTP_CHUNK);
      ArrayCopy(m_rx,bytes,m_rx_end,from,count);
      m_rx_end+=count;
     }
   if(m_state==ZMTP_GREETING && !OnGreeting())
      return(false);
   if(m_state==ZMTP_HANDSHAKE || m_state==ZMTP_OPEN)
      return(OnFrames());
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::OnGreeting(void)
  {
   int have=m_rx_end-m_rx_at;
   if(have>=1 && m_rx[m_rx_at]!=0xFF)
      return(Fail("the peer does not speak ZMTP"));
   if(have>=10 && (m_rx[m_rx_at+9]&0x01)==0)
      return(Fail("the peer speaks ZMTP 1"));
   if(have>=11 && m_rx[m_rx_at+10]<3)
      return(Fail("the peer speaks ZMTP "+IntegerToString(m_rx[m_rx_at+10])));
   if(have<ZMTP_GREETING_SIZE)
      return(true);
   if(!RxIs(m_rx_at+12,4,"NULL") || m_rx[m_rx_at+16]!=0)
      return(Fail("the peer wants another security mechanism than NULL"));
   m_rx_at+=ZMTP_GREETING_SIZE;
   m_state=ZMTP_HANDSHAKE;
   SendReady();
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::RxIs(const int at,const int size,const string text) const
  {
   if(size!=StringLen(text))
      return(false);
   for(int i=0; i<size; i++)
      if(m_rx[at+i]!=StringGetCharacter(text,i))
         return(false);
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::OnFrames(void)
  {
   while(m_rx_end-m_rx_at>=2)
     {
      int have=m_rx_end-m_rx_at;
      int flags=m_rx[m_rx_at];
      if((flags&0xF8)!=0 || (flags&(ZMTP_FLAG_COMMAND|ZMTP_FLAG_MORE))==(ZMTP_FLAG_COMMAND|ZMTP_FLAG_MORE))
         return(Fail("malformed frame"));
      int head=2;
      ulong wide=m_rx[m_rx_at+1];
      if((flags&ZMTP_FLAG_LONG)!=0)
        {
         head=9;
         if(have<head)
            return(true);
         wide=0;
         for(int i=1; i<9; i++)
            wide=(wide<<8)|m_rx[m_rx_at+i];
        }
      if(wide>ZMTP_MAX_FRAME)
         return(Fail("frame larger than "+IntegerToString(ZMTP_MAX_FRAME)+" bytes"));
      int size=(int)wide;
      if(have<head+size)
         return(true);
      int at=m_rx_at+head;
      m_rx_at+=head+size;
      if((flags&ZMTP_FLAG_COMMAND)!=0)
        {
         if(!OnCommand(at,size))
            return(false);
         continue;
        }
      if(m_state!=ZMTP_OPEN)
         return(Fail("message before READY"));
      m_parts++;
      if(m_parts>ZMTP_MAX_PARTS)
         return(Fail("message of too many frames"));
      if(m_messages>=ZMTP_MAX_WAITING)
         return(Fail("too many messages wait"));
      Enqueue(at,size,(flags&ZMTP_FLAG_MORE)!=0);
     }
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::OnCommand(const int at,const int size)
  {
   int name_size=(size<1 ? 0 : (int)m_rx[at]);
   if(name_size<1 || 1+name_size>size)
      return(Fail("malformed command"));
   int body=at+1+name_size;
   int end=at+size;
   if(RxIs(at+1,name_size,"READY"))
      return(OnReady(body,end));
   if(RxIs(at+1,name_size,"ERROR"))
      return(Fail("the peer refuses the connection"));
   if(RxIs(at+1,name_size,"PING"))
      return(OnPing(body,end));
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::OnReady(const int at,const int end)
  {
   if(m_state!=ZMTP_HANDSHAKE)
      return(Fail("READY came twice"));
   int here=at;
   while(here<end)
     {
      here+=1+m_rx[here];
      if(here+4>end)
         return(Fail("malformed READY"));
      ulong size=0;
      for(int i=0; i<4; i++)
         size=(size<<8)|m_rx[here+i];
      if(size>(ulong)(end-here-4))
         return(Fail("malformed READY"));
      here+=4+(int)size;
     }
   m_state=ZMTP_OPEN;
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpCodec::OnPing(const int at,const int end)
  {
   int context=end-at-2;
   if(context<0 || context>16)
      return(Fail("malformed PING"));
   PutHeader(ZMTP_FLAG_COMMAND,5+context);
   Put(4);
   PutText("PONG");
   for(int i=0; i<context; i++)
      Put(m_rx[at+2+i]);
   m_pings++;
   if(Unsent()>ZMTP_MAX_UNSENT)
      return(Fail("the peer asks and does not read"));
   return(true);
  }
//+------------------------------------------------------------------+
void CZmtpCodec::Enqueue(const int at,const int size,const bool more)
  {
   if(m_queue_at==m_queue_end)
     {
      m_queue_at=0;
      m_queue_end=0;
     }
   if(ArraySize(m_queue)<m_queue_end+1)
      ArrayResize(m_queue,m_queue_end+1,64);
   ArrayResize(m_queue[m_queue_end].data,size);
   if(size>0)
      ArrayCopy(m_queue[m_queue_end].data,m_rx,0,at,size);
   m_queue[m_queue_end].size=size;
   m_queue[m_queue_end].more=more;
   m_queue_end++;
   if(more)
      return;
   m_messages++;
   m_parts=0;
  }
//+------------------------------------------------------------------+
int CZmtpCodec::FrameSize(void) const
  {
   return(m_messages>0 ? m_queue[m_queue_at].size : 0);
  }
//+------------------------------------------------------------------+
// The next frame of the oldest whole message; true where more of its frames follow.
bool CZmtpCodec::TakeFrame(uchar &bytes[],int &size)
  {
   size=0;
   if(m_messages==0)
      return(false);
   size=m_queue[m_queue_at].size;
   ArrayResize(bytes,size);
   if(size>0)
      ArrayCopy(bytes,m_queue[m_queue_at].data,0,0,size);
   bool more=m_queue[m_queue_at].more;
   ArrayFree(m_queue[m_queue_at].data);
   m_queue_at++;
   if(!more)
      m_messages--;
   return(more);
  }
//+------------------------------------------------------------------+
void CZmtpCodec::SkipMessage(void)
  {
   uchar ignored[];
   int size=0;
   while(TakeFrame(ignored,size))
      continue;
  }
//+------------------------------------------------------------------+
class CZmtpDealer
  {
private:
   CZmtpCodec        m_codec;
   string            m_host;
   uint              m_port;
   string            m_type;
   string            m_identity;
   int               m_socket;
   string            m_reason;
   bool              m_was_open;
   ulong             m_opened;
   ulong             m_next_try;
   ulong             m_deadline;
   uint              m_backoff;
   uint              m_backoff_min;
   uint              m_backoff_max;
   bool              m_held_up;
   int               m_connections;

   void              Connect(void);
   bool              Lost(const string reason);
   bool              Flush(void);
   bool              Fill(void);

public:
                     CZmtpDealer(void);
                    ~CZmtpDealer(void);
   void              Open(const string host,const uint port,const string socket_type,const string identity);
   void              SetBackoff(const uint least_ms,const uint most_ms);
   void              Close(const string reason);
   bool              Pump(void);
   bool              IsOpen(void) const { return(m_codec.State()==ZMTP_OPEN); }
   bool              Send(const string type,const string body);
   bool              SendParts(const string &parts[]);
   bool              Subscribe(const string topic) { return(m_codec.Subscribe(topic) && Flush()); }
   int               Messages(void) const { return(m_codec.Messages()); }
   int               FrameSize(void) const { return(m_codec.FrameSize()); }
   bool              TakeFrame(uchar &bytes[],int &size) { return(m_codec.TakeFrame(bytes,size)); }
   void              SkipMessage(void) { m_codec.SkipMessage(); }
   string            Reason(void) const { return(m_reason); }
   int               Connections(void) const { return(m_connections); }
   int               Pings(void) const { return(m_codec.Pings()); }
  };
//+------------------------------------------------------------------+
CZmtpDealer::CZmtpDealer(void)
  {
   m_host="";
   m_port=0;
   m_type="DEALER";
   m_identity="";
   m_socket=INVALID_HANDLE;
   m_reason="";
   m_was_open=false;
   m_opened=0;
   m_next_try=0;
   m_deadline=0;
   m_backoff_min=1000;
   m_backoff_max=30000;
   m_backoff=m_backoff_min;
   m_held_up=false;
   m_connections=0;
  }
//+------------------------------------------------------------------+
CZmtpDealer::~CZmtpDealer(void)
  {
   if(m_socket!=INVALID_HANDLE)
      SocketClose(m_socket);
  }
//+------------------------------------------------------------------+
// Says where to connect; Pump does it.
void CZmtpDealer::Open(const string host,const uint port,const string socket_type,const string identity)
  {
   m_host=host;
   m_port=port;
   m_type=socket_type;
   m_identity=identity;
   m_next_try=0;
   m_backoff=m_backoff_min;
  }
//+------------------------------------------------------------------+
void CZmtpDealer::SetBackoff(const uint least_ms,const uint most_ms)
  {
   m_backoff_min=least_ms;
   m_backoff_max=most_ms;
   m_backoff=least_ms;
  }
//+------------------------------------------------------------------+
void CZmtpDealer::Close(const string reason)
  {
   if(m_socket!=INVALID_HANDLE)
      SocketClose(m_socket);
   m_socket=INVALID_HANDLE;
   m_codec.Stop();
   m_reason=reason;
   ulong now=GetTickCount64();
   // Jitter, so that many charts do not come back in the same moment.
   m_next_try=now+(ulong)MathRand()*(m_backoff/4)/32767;
   bool lasted=(m_was_open && now>=m_opened+m_backoff_min);
   m_was_open=false;
   if(lasted)
      return;                            // a good connection is sought again at once
   m_next_try+=m_backoff;
   // An address that answers at once, be it with a refusal, costs nothing and is asked again as soon as the first time;
   // one that does not answer holds up the terminal at every try.
   m_backoff=(m_held_up ? MathMin(m_backoff*2,m_backoff_max) : m_backoff_min);
  }
//+------------------------------------------------------------------+
bool CZmtpDealer::Lost(const string reason)
  {
   Close(reason);
   return(false);
  }
//+------------------------------------------------------------------+
void CZmtpDealer::Connect(void)
  {
   ResetLastError();
   m_socket=SocketCreate();
   if(m_socket==INVALID_HANDLE)
     {
      Close("SocketCreate: error "+IntegerToString(GetLastError()));
      return;
     }
   ulong begun=GetTickCount64();
   bool connected=SocketConnect(m_socket,m_host,m_port,ZMTP_CONNECT_MS);
   int error=GetLastError();
   m_held_up=(GetTickCount64()>=begun+ZMTP_HELD_UP_MS);
   if(!connected)
     {
      string where=m_host+":"+IntegerToString(m_port);
      if(error==4014)
         Close("address "+m_host+" is not allowed: add it in Tools > Options > Expert Advisors");
      else
         Close("nobody listens at "+where+" (error "+IntegerToString(error)+")");
      return;
     }
   SocketTimeouts(m_socket,ZMTP_SEND_MS,ZMTP_SEND_MS);
   m_connections++;
   m_was_open=false;
   m_codec.Start(m_type,m_identity);
   m_deadline=GetTickCount64()+ZMTP_HANDSHAKE_MS;
  }
//+------------------------------------------------------------------+
// To be called by the timer: connects when it is time, sends, receives. True while connected.
bool CZmtpDealer::Pump(void)
  {
   if(m_socket==INVALID_HANDLE)
     {
      if(GetTickCount64()<m_next_try)
         return(false);
      Connect();
      if(m_socket==INVALID_HANDLE)
         return(false);
     }
   bool alive=SocketIsConnected(m_socket);
   if(!Fill() || !Flush())
      return(false);
   if(m_codec.State()==ZMTP_OPEN)
     {
      if(!m_was_open)
        {
         m_was_open=true;
         m_opened=GetTickCount64();
         m_backoff=m_backoff_min;        // a TCP connect alone proves nothing
        }
     }
   else
      if(GetTickCount64()>m_deadline)
         return(Lost("the peer did not finish the handshake"));
   if(!alive && m_codec.Messages()==0)
      return(Lost("the peer closed the connection"));
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpDealer::Flush(void)
  {
   while(m_codec.Unsent()>0)
     {
      uchar chunk[];
      int count=m_codec.CopyUnsent(chunk,ZMTP_CHUNK);
      int sent=SocketSend(m_socket,chunk,(uint)count);
      if(sent<0)
         return(Lost("SocketSend: error "+IntegerToString(GetLastError())));
      m_codec.Sent(sent);
      if(sent<count)
         break;                          // the rest at the next call
     }
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpDealer::Fill(void)
  {
   ulong end=GetTickCount64()+ZMTP_SEND_MS;
   while(GetTickCount64()<=end)
     {
      uint ready=SocketIsReadable(m_socket);
      if(ready==0)
         break;
      uchar chunk[];
      int got=SocketRead(m_socket,chunk,MathMin(ready,(uint)ZMTP_CHUNK),1);
      if(got<=0)
         break;
      if(!m_codec.Feed(chunk,0,got))
         return(Lost(m_codec.Reason()));
     }
   return(true);
  }
//+------------------------------------------------------------------+
bool CZmtpDealer::Send(const string type,const string body)
  {
   string parts[2];
   parts[0]=type;
   parts[1]=body;
   return(SendParts(parts));
  }
//+------------------------------------------------------------------+
bool CZmtpDealer::SendParts(const string &parts[])
  {
   int total=ArraySize(parts);
   int bytes=0;
   for(int i=0; i<total; i++)
      bytes+=9+3*StringLen(parts[i]);
   if(!m_codec.Begin(bytes))
      return(false);
   for(int i=0; i<total; i++)
      m_codec.AddFrame(parts[i],i<total-1);
   return(Flush());
  }
#endif
//+------------------------------------------------------------------+
