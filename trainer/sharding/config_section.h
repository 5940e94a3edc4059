// Private to the trainer: a configuration that is read key by key. What is wrong is collected, so
// that one Error names all of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <tendril/core/error.h>
#include <tendril/core/json.h>

namespace tendril::sharding {

class Problems {
 public:
  /// `where`: the beginning of the Error, as in "[fsdp] fsdp_config".
  explicit Problems(std::string where) : where_(std::move(where)) {}

  template <class... Parts>
  void add(const Parts&... parts) {
    lines_.push_back(detail::concat(parts...));
  }
  /// Error with one line each, unless there is none.
  void finish() const;
  const std::string& where() const { return where_; }

 private:
  std::string where_;
  std::vector<std::string> lines_;
};

/// The object of a file that ends in .json, .yaml or .yml. At the top of a YAML file unquoted words
/// are texts, whatever they look like; ConfigSection reads them all the same.
Json read_config_file(const std::string& path);

/// "A, B, C"
std::string listed(const std::vector<std::string>& names);
/// true, 1, yes, on and their opposites in any case; nullopt for anything else.
std::optional<bool> flag_from(const std::string& text);

/// One object of a configuration. Values may be texts, as environments and YAML have them: "true"
/// is a flag, "1e8" a number.
class ConfigSection {
 public:
  /// `prefix` stands before names in messages: "zero_optimization.". A problem, and an empty
  /// section, where `object` is none.
  ConfigSection(const Json& object, std::string prefix, Problems& problems);

  /// The member, known from now on; null when it is missing or null.
  const Json* take(const std::string& name);
  /// The members of a member; empty when it is missing.
  ConfigSection section(const std::string& name);
  // Values that are no such thing are problems, and nullopt.
  std::optional<bool> flag(const std::string& name);
  std::optional<int64_t> integer(const std::string& name, int64_t least);
  std::optional<double> number(const std::string& name);
  std::optional<std::string> text(const std::string& name);
  /// A list, or one text.
  std::vector<std::string> texts(const std::string& name);
  /// The same, and each text may be several, parted by commas.
  std::vector<std::string> words(const std::string& name);
  /// Which of `choices`, whose case does not matter; numbers from 1 on are accepted.
  std::optional<size_t> choice(const std::string& name, const std::vector<std::string>& choices);

  /// The name with the section's.
  std::string path(const std::string& name) const { return prefix_ + name; }
  /// Problems for all members that nobody took.
  void finish();

 private:
  void wrong(const std::string& name, const std::string& wanted, const Json& got);

  Json object_;
  std::string prefix_;
  Problems& problems_;
  std::vector<std::string> known_;
};

}  // namespace tendril::sharding
