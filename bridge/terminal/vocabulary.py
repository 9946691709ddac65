"""What of MQL5 the simulated terminal knows: anything else is refused before a compiler sees it.

A name stands here only if MetaQuotes' reference documents it and `runtime/` implements it. Imports nothing internal.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FUNCTIONS = _words(
    """
    ArrayCopy ArrayFree ArrayInitialize ArrayResize ArraySize CharArrayToString DoubleToString IntegerToString
    NormalizeDouble ShortToString StringToCharArray StringToDouble StringToInteger StringToTime TimeToString
    StringFind StringFormat StringGetCharacter StringLen StringReplace StringSplit StringSubstr StringToLower
    StringTrimLeft StringTrimRight MathAbs MathCeil MathFloor MathIsValidNumber MathMax MathMin MathPow
    MathRand MathRound MathSrand TimeCurrent TimeGMT TimeLocal TimeTradeServer TimeToStruct StructToTime
    GetMicrosecondCount GetTickCount64 Sleep EventKillTimer EventSetMillisecondTimer ExpertRemove CheckPointer
    Comment CryptEncode GetLastError MQLInfoInteger Print PrintFormat ResetLastError TerminalInfoInteger
    TerminalInfoString ZeroMemory IsStopped SocketClose SocketConnect SocketCreate SocketIsConnected
    SocketIsReadable SocketRead SocketSend SocketTimeouts FileClose FileDelete FileFlush FileIsEnding
    FileIsExist FileMove FileOpen FileReadArray FileReadString FileSize FileWriteArray FileWriteString Bars
    CopyRates PeriodSeconds SeriesInfoInteger SymbolInfoDouble SymbolInfoInteger SymbolInfoString SymbolInfoTick
    AccountInfoDouble AccountInfoInteger AccountInfoString OrderCalcMargin OrderCalcProfit OrderSelect
    OrderSend PositionGetDouble PositionGetInteger PositionGetString PositionGetTicket PositionSelectByTicket
    PositionsTotal HistoryDealGetDouble HistoryDealGetInteger HistoryDealGetString HistoryDealGetTicket
    HistoryDealSelect HistoryDealsTotal HistorySelect
    """
)
"""Functions of the platform that may be called."""

POD_TYPES = _words(
    """
    bool char uchar short ushort int uint long ulong float double datetime color void
    """
)
STRUCTS = _words(
    """
    MqlRates MqlTick MqlDateTime MqlTradeRequest MqlTradeResult MqlTradeTransaction
    """
)
BUILTIN_TYPES = POD_TYPES | STRUCTS | {"string"}

EVENTS = ("OnInit", "OnDeinit", "OnTick", "OnTimer", "OnTradeTransaction", "OnStart")
"""Handlers the terminal calls; OnStart is a script's."""

KEYWORDS = _words(
    """
    if for while switch return sizeof delete new do else case
    """
)

FORBIDDEN = _words(
    """
    auto nullptr constexpr consteval decltype namespace using throw try catch goto unsigned signed size_t
    static_cast dynamic_cast reinterpret_cast const_cast friend mutable std register extern inline noexcept
    asm and or not xor wchar_t char16_t strict template typename typedef union operator volatile static_assert
    alignas alignof thread_local concept requires co_await export typeid explicit long_long int64_t
    """
)
"""Legal in C++ and refused by MetaEditor, or of another meaning there, or simply outside the subset."""
