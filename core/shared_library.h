// A shared library that is opened while the program runs, for what most programs never need.
// Internal.
#pragma once

#include <string>
#include <vector>

#include <tendril/core/api.h>

namespace tendril {

/// Stays open until the program ends: a static destructor may still call into it.
class TENDRIL_API SharedLibrary {
 public:
  /// The first of `candidates` that can be opened. A name without a slash is looked for as the
  /// dynamic linker does it (LD_LIBRARY_PATH, then the system's folders). The Error lists all that
  /// was tried with what the linker said, after "[op] "; `advice` ends it.
  SharedLibrary(const char* op, const std::vector<std::string>& candidates, const char* advice);

  /// Which of the candidates it is.
  const std::string& name() const { return name_; }

  /// The address of a function; Error when the library has none of this name.
  template <class Function>
  Function* function(const char* symbol) const {
    return reinterpret_cast<Function*>(address(symbol));
  }

 private:
  void* address(const char* symbol) const;

  const char* op_;
  std::string name_;
  void* handle_ = nullptr;
};

}  // namespace tendril
