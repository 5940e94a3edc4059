// Names of runs: where and when.
#pragma once

#include <string>

#include <tendril/core/api.h>

namespace tendril {

TENDRIL_API std::string host_name();

/// "runs/2026-01-31_23-59-58_<host>", local time.
TENDRIL_API std::string run_folder_name();

/// Local time as "2026-01-31<between>23<colon>59<colon>58".
TENDRIL_API std::string local_time_text(char between, char colon);

}  // namespace tendril
