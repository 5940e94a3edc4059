#include <tendril/core/shared_library.h>

#include <dlfcn.h>

#include <tendril/core/error.h>

namespace tendril {

SharedLibrary::SharedLibrary(const char* op, const std::vector<std::string>& candidates,
                             const char* advice)
    : op_(op) {
  std::string tried;
  for (const std::string& candidate : candidates) {
    // RTLD_NOW: a function that is missing further down shows here and not in the middle of a call.
    handle_ = dlopen(candidate.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) {
      name_ = candidate;
      return;
    }
    const char* reason = dlerror();  // begins with the name
    tried += "\n  " + (reason ? std::string(reason) : candidate);
  }
  fail("[", op, "] none of these shared libraries can be opened:", tried, "\n", advice);
}

void* SharedLibrary::address(const char* symbol) const {
  void* found = dlsym(handle_, symbol);
  TENDRIL_CHECK(found, "[", op_, "] ", name_, " has no function ", symbol);
  return found;
}

}  // namespace tendril
