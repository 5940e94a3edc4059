// The printed table of a module's tensors.
#include <tendril/nn/module.h>

#include <algorithm>
#include <array>
#include <iomanip>
#include <map>
#include <sstream>

namespace tendril::nn {
namespace {

using Row = std::array<std::string, 6>;
constexpr size_t kCountColumn = 4;  // the only right-aligned one

std::string with_commas(int64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string readable_bytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1000.0 && unit + 1 < std::size(kUnits); ++unit) value /= 1000.0;
  std::ostringstream text;
  text << std::fixed << std::setprecision(unit == 0 ? 0 : 1) << value << ' ' << kUnits[unit];
  return text.str();
}

void write_row(std::ostream& out, const Row& row, const std::array<size_t, 6>& widths) {
  std::ostringstream line;
  for (size_t i = 0; i < row.size(); ++i)
    line << (i ? "  " : "") << (i == kCountColumn ? std::right : std::left)
         << std::setw(static_cast<int>(widths[i])) << row[i];
  std::string text = line.str();
  text.erase(text.find_last_not_of(' ') + 1);
  out << text << '\n';
}

}  // namespace

std::string summary(const Module& module) {
  std::map<std::string, std::string> types;  // dotted module name -> type
  const_cast<Module&>(module).for_each_module(
      [&](const std::string& name, Module& part) { types[name] = part.type_name(); });
  const auto owner = [&](const std::string& name) {
    const size_t dot = name.rfind('.');
    return types[dot == std::string::npos ? "" : name.substr(0, dot)];
  };

  std::vector<Row> rows = {{"Name", "Type", "Shape", "Dtype", "Parameters", "Trainable"}};
  int64_t bytes = 0;
  const auto add_row = [&](const NamedTensor& entry, std::string trainable) {
    rows.push_back({entry.name, owner(entry.name), detail::concat(entry.tensor.shape()),
                    name(entry.tensor.dtype()), with_commas(entry.tensor.numel()),
                    std::move(trainable)});
    bytes += entry.tensor.nbytes();
  };
  for (const NamedTensor& entry : module.named_parameters())
    add_row(entry, entry.tensor.requires_grad() ? "yes" : "no");
  for (const NamedTensor& entry : module.named_buffers()) add_row(entry, "buffer");

  std::array<size_t, 6> widths{};
  for (const Row& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  size_t total_width = 2 * (widths.size() - 1);
  for (const size_t width : widths) total_width += width;

  std::ostringstream out;
  write_row(out, rows[0], widths);
  out << std::string(total_width, '-') << '\n';
  for (size_t i = 1; i < rows.size(); ++i) write_row(out, rows[i], widths);
  out << std::string(total_width, '-') << '\n';
  out << module.type_name() << ": " << with_commas(module.parameter_count()) << " parameters, "
      << with_commas(module.parameter_count(true)) << " trainable, " << readable_bytes(bytes)
      << '\n';
  return out.str();
}

}  // namespace tendril::nn
