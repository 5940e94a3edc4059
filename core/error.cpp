#include <tendril/core/error.h>

namespace tendril {

Error::~Error() = default;
OutOfMemory::~OutOfMemory() = default;

namespace detail {
void throw_error(const std::string& message) { throw Error(message); }
}  // namespace detail

}  // namespace tendril
