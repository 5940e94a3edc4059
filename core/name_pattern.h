// Regular expressions for names of modules and files.
#pragma once

#include <memory>
#include <string>

#include <tendril/core/api.h>

namespace tendril {

/// A regular expression (ECMAScript) that whole names match or not. Copies share one, and threads
/// may make and use theirs at once.
class TENDRIL_API NamePattern {
 public:
  /// Error "[key] ..." when `text` is no regular expression.
  NamePattern(const std::string& key, const std::string& text);
  bool matches(const std::string& name) const;

 private:
  struct Compiled;
  std::shared_ptr<const Compiled> compiled_;
};

}  // namespace tendril
