// Messages of the library, at the levels of Python's logging. They go to a sink that the application
// may replace; the library prints nothing else, and nothing on stdout.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <tendril/core/error.h>

namespace tendril {

enum class LogLevel { debug = 10, info = 20, warning = 30, error = 40, critical = 50 };

using LogSink = std::function<void(LogLevel level, const std::string& message)>;

/// Where messages go; an empty one restores the default, which writes "[level] message" to stderr.
/// Calls of the sink never overlap.
TENDRIL_API void set_log_sink(LogSink sink);
/// Messages below this level are dropped; warning at first.
TENDRIL_API void set_log_level(LogLevel level);
TENDRIL_API LogLevel log_level();
/// "debug" ... "critical"; Error that lists them otherwise.
TENDRIL_API LogLevel log_level_from(std::string_view name);

namespace detail {
TENDRIL_API void emit_log(LogLevel level, const std::string& message);
}

/// Parts are put together only when the level is shown.
template <class... Parts>
void log_message(LogLevel level, const Parts&... parts) {
  if (level >= log_level()) detail::emit_log(level, detail::concat(parts...));
}
template <class... Parts>
void log_info(const Parts&... parts) {
  log_message(LogLevel::info, parts...);
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  log_message(LogLevel::warning, parts...);
}

}  // namespace tendril
