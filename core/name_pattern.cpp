#include <tendril/core/name_pattern.h>

#include <locale>
#include <mutex>
#include <regex>

#include <tendril/core/error.h>

namespace tendril {

struct NamePattern::Compiled {
  std::regex expression;
};

namespace {

// One at a time: compiling asks the locale's ctype to narrow characters, and libstdc++ keeps the
// answers in a table of the facet that all threads share and nothing guards. Matching reads only
// the expression.
std::regex compile(const std::string& text) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::regex expression;
  expression.imbue(std::locale::classic());  // the embedder's locale must not change what matches
  expression.assign(text);
  return expression;
}

}  // namespace

NamePattern::NamePattern(const std::string& key, const std::string& text) {
  try {
    compiled_ = std::make_shared<const Compiled>(Compiled{compile(text)});
  } catch (const std::regex_error& error) {
    fail("[", key, "] \"", text, "\" is no regular expression (ECMAScript): ", error.what());
  }
}

bool NamePattern::matches(const std::string& name) const {
  return std::regex_match(name, compiled_->expression);
}

}  // namespace tendril
