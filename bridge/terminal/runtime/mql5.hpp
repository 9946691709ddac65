// MQL5 on POSIX: just enough to run the Expert Advisor's own source. It does not prove that MetaEditor takes it.
#pragma once
#include "driver.hpp"
