// Rewrites what the host's compiler cannot read of CUDA C++:
//
//   kernel<<<grid, block, shared, stream>>>(arguments)   a call of emulated::Launch
//   extern __shared__ T name[];                          a pointer to emulated::dynamic_shared()
//   __shared__ T name[n];                                the same, and emulated::declare_shared
//   __global__ ... __launch_bounds__(n) ... { ... }      begins with emulated::check_bounds
//
// Usage: launches SOURCE RESULT. Lines keep their numbers. It knows no C++ beyond comments, strings
// and brackets: a form of these that none of our sources has is an error.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }
bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)); }

std::string trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return std::string(text);
}

std::string on_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

class Rewriter {
 public:
  explicit Rewriter(std::string source) : in_(std::move(source)) {}

  std::string run() {
    while (at_ < in_.size()) step();
    if (!bound_.empty()) fail("a kernel with __launch_bounds__ has no body");
    return std::move(out_);
  }

  size_t line() const {
    return 1 +
           static_cast<size_t>(std::count(
               in_.begin(), in_.begin() + static_cast<ptrdiff_t>(std::min(at_, in_.size())), '\n'));
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw std::runtime_error(what); }

  bool starts(std::string_view text) const { return in_.compare(at_, text.size(), text) == 0; }
  bool starts_word(std::string_view word) const {
    const size_t end = at_ + word.size();
    return starts(word) && (at_ == 0 || !is_word(in_[at_ - 1])) &&
           (end == in_.size() || !is_word(in_[end]));
  }
  void take(size_t count) {
    out_.append(in_, at_, count);
    at_ += count;
  }

  void step() {
    if (const size_t length = skipped_length(at_)) return take(length);
    if (starts("<<<")) return launch();
    if (starts_word("extern") && declares_shared()) return dynamic_shared();
    if (starts_word("__shared__")) return static_shared();
    if (starts_word("__launch_bounds__")) return launch_bounds();
    if (in_[at_] == '{' && !bound_.empty()) {
      take(1);
      out_ += " ::emulated::check_bounds(" + bound_ + ");";
      bound_.clear();
      return;
    }
    take(1);
  }

  // Of the comment or literal at a position; 0 where there is none.
  size_t skipped_length(size_t at) const {
    const char c = in_[at];
    if (c == '/' && in_.compare(at, 2, "//") == 0)
      return std::min(in_.find('\n', at), in_.size()) - at;
    if (c == '/' && in_.compare(at, 2, "/*") == 0) return in_.find("*/", at) + 2 - at;
    if (c == 'R' && in_.compare(at, 2, "R\"") == 0 && (at == 0 || !is_word(in_[at - 1])))
      fail("raw strings are not read");
    const bool separator = c == '\'' && at > 0 && is_word(in_[at - 1]);  // 1'000
    if ((c != '"' && c != '\'') || separator) return 0;
    size_t end = at + 1;
    while (end < in_.size() && in_[end] != c) end += in_[end] == '\\' ? 2 : 1;
    return end + 1 - at;
  }

  // From an opening bracket to behind its closing one.
  size_t closing(size_t at) const {
    int depth = 0;
    while (at < in_.size()) {
      if (const size_t length = skipped_length(at)) {
        at += length;
        continue;
      }
      const char c = in_[at++];
      if (c == '(' || c == '[' || c == '{') ++depth;
      if ((c == ')' || c == ']' || c == '}') && --depth == 0) return at;
    }
    fail("a bracket is not closed");
  }

  // Where `text` stands outside of brackets, from `at` on.
  size_t find_outside(std::string_view text, size_t at) const {
    while (at < in_.size() && in_.compare(at, text.size(), text) != 0) {
      if (const size_t length = skipped_length(at))
        at += length;
      else if (in_[at] == '(' || in_[at] == '[' || in_[at] == '{')
        at = closing(at);
      else
        ++at;
    }
    if (at >= in_.size()) fail("misses " + std::string(text));
    return at;
  }

  size_t after_space(size_t at) const {
    while (at < in_.size() && is_space(in_[at])) ++at;
    return at;
  }

  // The parts between commas outside of round, square and curly brackets.
  std::vector<std::string> parts(size_t begin, size_t end) const {
    std::vector<std::string> result(1);
    for (size_t at = begin; at < end;) {
      const bool opens = in_[at] == '(' || in_[at] == '[' || in_[at] == '{';
      const size_t skipped = skipped_length(at), length = skipped ? skipped
                                                          : opens ? closing(at) - at
                                                                  : 1;
      if (in_[at] == ',')
        result.emplace_back();
      else
        result.back().append(in_, at, length);
      at += length;
    }
    for (std::string& part : result) part = trimmed(part);
    return result;
  }

  // Takes the kernel's name with its template arguments off the end of what was written.
  std::string take_kernel() {
    size_t at = out_.size();
    while (at > 0 && is_space(out_[at - 1])) --at;
    if (at > 0 && out_[at - 1] == '>') {
      int depth = 0;
      do {
        --at;
        if (out_[at] == '>') ++depth;
        if (out_[at] == '<') --depth;
      } while (depth > 0 && at > 0);
    }
    while (at > 0 && (is_word(out_[at - 1]) || out_[at - 1] == ':')) --at;
    std::string kernel = out_.substr(at);
    if (trimmed(kernel).empty()) fail("<<< follows no kernel");
    out_.resize(at);
    return kernel;
  }

  void launch() {
    const std::string kernel = take_kernel(), name = on_one_line(trimmed(kernel));
    const size_t begin = at_ + 3, end = find_outside(">>>", begin);
    const std::vector<std::string> configuration = parts(begin, end);
    const size_t open = after_space(end + 3);
    if (open >= in_.size() || in_[open] != '(') fail("a launch without arguments in brackets");
    const size_t close = closing(open);
    out_ += "::emulated::Launch(" + in_.substr(begin, end - begin) + ")";
    // A template whose arguments the call deduces has no address; none of ours uses dynamic memory.
    if (configuration.size() > 2 && configuration[2] != "0")
      out_ += ".of(reinterpret_cast<const void*>(" + name + "))";
    out_ +=
        ".run([=](const auto&... emulated_arguments) { " + kernel + "(emulated_arguments...); }";
    if (!trimmed(in_.substr(open + 1, close - open - 2)).empty()) out_ += ",";
    out_ += in_.substr(end + 3, open - end - 3) + in_.substr(open + 1, close - open - 1);
    at_ = close;
  }

  bool declares_shared() const { return in_.compare(after_space(at_ + 6), 10, "__shared__") == 0; }

  void dynamic_shared() {
    const size_t end = in_.find(';', at_);
    std::string declaration = trimmed(std::string_view(in_).substr(at_, end - at_));
    declaration = trimmed(declaration.substr(declaration.find("__shared__") + 10));
    if (declaration.starts_with("__align__"))
      declaration = trimmed(declaration.substr(declaration.find(')') + 1));
    if (!declaration.ends_with("[]")) fail("extern __shared__ is not of the form T name[]");
    declaration = trimmed(declaration.substr(0, declaration.size() - 2));
    size_t name = declaration.size();
    while (name > 0 && is_word(declaration[name - 1])) --name;
    const std::string type = trimmed(declaration.substr(0, name));
    out_ += type + "* const " + declaration.substr(name) + " = reinterpret_cast<" + type +
            "*>(::emulated::dynamic_shared());";
    at_ = end + 1;
  }

  void static_shared() {
    const size_t end = find_outside(";", at_);
    std::string declaration = trimmed(std::string_view(in_).substr(at_, end - at_));
    while (declaration.ends_with("]"))
      declaration = trimmed(declaration.substr(0, declaration.rfind('[')));
    size_t name = declaration.size();
    while (name > 0 && is_word(declaration[name - 1])) --name;
    const std::string variable = declaration.substr(name);
    if (variable.empty()) fail("__shared__ is not of the form T name[n]");
    take(end + 1 - at_);
    out_ += " ::emulated::declare_shared(&" + variable + ", sizeof " + variable + ");";
  }

  void launch_bounds() {
    const size_t open = after_space(at_ + std::string_view("__launch_bounds__").size());
    const size_t close = closing(open);
    bound_ = in_.substr(open + 1, close - open - 2);
    take(close - at_);
    // The parameters come before the body; a default argument in braces would be taken for it.
    const size_t parameters = in_.find('(', at_);
    take(closing(parameters) - at_);
  }

  std::string in_, out_;
  size_t at_ = 0;
  std::string bound_;  // of the kernel whose body comes next
};

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::cerr << "usage: launches SOURCE RESULT\n";
    return EXIT_FAILURE;
  }
  const std::filesystem::path source = arguments[1], result = arguments[2];
  size_t line = 0;
  try {
    Rewriter rewriter(read(source));
    std::string text;
    try {
      text = rewriter.run();
    } catch (...) {
      line = rewriter.line();
      throw;
    }
    std::filesystem::create_directories(result.parent_path());
    std::ofstream file(result, std::ios::binary);
    file << "#line 1 \"" << source.string() << "\"\n" << text;
    if (!file.flush()) throw std::runtime_error("cannot write " + result.string());
  } catch (const std::exception& error) {
    std::cerr << source.string() << ":" << line << ": error: " << error.what() << "\n";
    return EXIT_FAILURE;
  }
}
