// Errors. Everything that can go wrong with user input throws tendril::Error with a message of the
// form "[op] what is wrong; got shapes/dtypes/devices; what would be right".
#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

#include <tendril/core/api.h>

namespace tendril {

class TENDRIL_API Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(message) {}
  ~Error()
      override;  // out of line: one vtable and type_info, so that it can be caught across libraries
};

/// A device has no memory left: what a caller may answer with a smaller batch.
class TENDRIL_API OutOfMemory : public Error {
 public:
  explicit OutOfMemory(const std::string& message) : Error(message) {}
  ~OutOfMemory() override;
};

namespace detail {

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream text;
  text.imbue(std::locale::classic());  // the embedder's locale must not group digits
  (text << ... << parts);
  return text.str();
}

[[noreturn]] TENDRIL_API void throw_error(const std::string& message);

}  // namespace detail

/// Throws tendril::Error with the parts streamed one after the other.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  detail::throw_error(detail::concat(parts...));
}

}  // namespace tendril

/// Throws tendril::Error when `condition` is false; the message parts are only evaluated then.
#define TENDRIL_CHECK(condition, ...) \
  do {                                \
    if (!(condition)) [[unlikely]]    \
      ::tendril::fail(__VA_ARGS__);   \
  } while (false)
