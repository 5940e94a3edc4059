#include <tendril/trainer/argument_parser.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <tendril/core/error.h>
#include <tendril/trainer/arguments/command_line.h>
#include <tendril/trainer/arguments/help.h>

namespace tendril {
namespace {

// "--max-steps" as files and the list have it: "max_steps".
std::string canonical_name(const std::string& flag) {
  const auto is_fit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  TENDRIL_CHECK(flag.size() > 2 && flag.starts_with("--") && flag[2] != '-' &&
                    std::all_of(flag.begin(), flag.end(), is_fit),
                "[arguments] an option's name is two dashes, then letters, digits and underscores; "
                "got ",
                flag);
  std::string name = flag.substr(2);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// A switch also takes --no_NAME.
bool clash(const Argument& a, const Argument& b) {
  return a.name == b.name || (a.type->is_switch && b.name == "no_" + a.name) ||
         (b.type->is_switch && a.name == "no_" + b.name);
}

}  // namespace

struct ArgumentParser::Impl {
  std::string program, description;
  ArgumentList arguments;
  std::vector<std::string> sections_first;
  TrainingArguments* training_arguments = nullptr;

  void add(Argument argument) {
    TENDRIL_CHECK(argument.name != "config" && argument.name != "help", "[arguments] --",
                  argument.name, " is the parser's own");
    for (const Argument& other : arguments)
      TENDRIL_CHECK(!clash(argument, other), "[arguments] --", argument.name,
                    " cannot be added: there is --", other.name);
    arguments.push_back(std::move(argument));
  }
};

ArgumentParser::ArgumentParser(std::string program, std::string description)
    : impl_(std::make_unique<Impl>()) {
  impl_->program = std::move(program);
  impl_->description = std::move(description);
}
ArgumentParser::~ArgumentParser() = default;
ArgumentParser::ArgumentParser(ArgumentParser&&) noexcept = default;
ArgumentParser& ArgumentParser::operator=(ArgumentParser&&) noexcept = default;

ArgumentParser& ArgumentParser::add_option(const std::string& name, const ArgumentType& type,
                                           void* value, const std::string& help) {
  impl_->add({"", canonical_name(name), help, &type, value});
  return *this;
}

ArgumentParser& ArgumentParser::add(TrainingArguments& arguments,
                                    const std::vector<std::string>& sections_first) {
  const ArgumentList fields = arguments_of(arguments);
  for (const std::string& section : sections_first)
    TENDRIL_CHECK(std::any_of(fields.begin(), fields.end(),
                              [&](const Argument& field) { return field.section == section; }),
                  "[arguments] TrainingArguments have no section named ", section);
  for (const Argument& field : fields) impl_->add(field);
  impl_->training_arguments = &arguments;
  impl_->sections_first = sections_first;
  return *this;
}

bool ArgumentParser::parse(int argc, const char* const* argv) {
  const CommandLine line = read_command_line(impl_->arguments, argc, argv);
  if (line.wants_help) return false;
  if (line.file) apply_settings(impl_->arguments, read_argument_file(*line.file));
  apply_command_line(line);
  if (impl_->training_arguments) impl_->training_arguments->validate();
  return true;
}

void ArgumentParser::parse_or_exit(int argc, const char* const* argv) {
  try {
    if (parse(argc, argv)) return;
  } catch (const Error& mistake) {
    std::fprintf(stderr, "%s\nTry %s --help.\n", mistake.what(), impl_->program.c_str());
    std::exit(1);
  }
  std::fputs(help().c_str(), stdout);
  std::exit(0);
}

std::string ArgumentParser::help() const {
  return argument_help(impl_->program, impl_->description, impl_->arguments, impl_->sections_first);
}

}  // namespace tendril
