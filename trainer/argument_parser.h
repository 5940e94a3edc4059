// ArgumentParser: the command line of a program that trains, its own options beside those of
// TrainingArguments.
//
//   TrainingArguments args{.output_dir = "out"};
//   std::string data = "text.txt";
//   bool verbose = false;
//   ArgumentParser parser("quickstart", "Trains a small GPT.");
//   parser.add("--data", data, "Text to learn");
//   parser.add("--verbose", verbose, "Say more");
//   parser.add(args);
//   parser.parse_or_exit(argc, argv);
//
// What counts, strongest first: the command line; a JSON or YAML file, given as --config FILE or as
// a word that ends in .json, .yaml or .yml; what the variables held before; the library's defaults.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <tendril/trainer/arguments/type.h>

namespace tendril {

struct TrainingArguments;

class TENDRIL_API ArgumentParser {
 public:
  explicit ArgumentParser(std::string program, std::string description = "");
  ~ArgumentParser();
  ArgumentParser(ArgumentParser&&) noexcept;
  ArgumentParser& operator=(ArgumentParser&&) noexcept;

  /// An option --name of this program, written into `value`, which must outlive the parser: bool (a
  /// switch), int, int64_t, double, std::string, std::vector<std::string>, or std::optional of one
  /// of them. A file sets it under its name with underscores. Error for a name that is taken.
  template <ArgumentValue T>
  ArgumentParser& add(const std::string& name, T& value, const std::string& help) {
    return add_option(name, argument_type<T>(), &value, help);
  }
  /// Every field of `arguments`; --help shows the sections named first.
  ArgumentParser& add(TrainingArguments& arguments,
                      const std::vector<std::string>& sections_first = {});

  /// False when --help was asked for: nothing is changed then. Error for a mistake, which names the
  /// flag or file; TrainingArguments are validated.
  bool parse(int argc, const char* const* argv);
  /// The same for main(): --help prints help() on stdout and ends the program with status 0, a
  /// mistake prints its message on stderr and ends it with status 1.
  void parse_or_exit(int argc, const char* const* argv);

  std::string help() const;

 private:
  ArgumentParser& add_option(const std::string& name, const ArgumentType& type, void* value,
                             const std::string& help);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tendril
