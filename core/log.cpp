#include <tendril/core/log.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <utility>

namespace tendril {
namespace {

constexpr std::array<std::pair<std::string_view, LogLevel>, 5> kNames = {
    {{"debug", LogLevel::debug},
     {"info", LogLevel::info},
     {"warning", LogLevel::warning},
     {"error", LogLevel::error},
     {"critical", LogLevel::critical}}};

std::atomic<LogLevel> current_level = LogLevel::warning;

struct SharedSink {
  std::mutex mutex;
  LogSink sink;  // empty: stderr
};

SharedSink& shared_sink() {
  static SharedSink shared;
  return shared;
}

std::string_view name_of(LogLevel level) {
  for (const auto& [name, known] : kNames)
    if (known == level) return name;
  return "log";
}

}  // namespace

void set_log_sink(LogSink sink) {
  const std::lock_guard lock(shared_sink().mutex);
  shared_sink().sink = std::move(sink);
}

void set_log_level(LogLevel level) { current_level = level; }

LogLevel log_level() { return current_level; }

LogLevel log_level_from(std::string_view name) {
  for (const auto& [known, level] : kNames)
    if (known == name) return level;
  fail("[log_level] unknown level; got \"", name,
       "\"; choose from debug, info, warning, error, critical");
}

void detail::emit_log(LogLevel level, const std::string& message) {
  const std::lock_guard lock(shared_sink().mutex);
  if (shared_sink().sink) return shared_sink().sink(level, message);
  const std::string_view name = name_of(level);
  std::fprintf(stderr, "[%.*s] %s\n", static_cast<int>(name.size()), name.data(), message.c_str());
}

}  // namespace tendril
