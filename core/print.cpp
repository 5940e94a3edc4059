// Tensors as text, like NumPy prints arrays.
#include <tendril/core/tensor.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <ostream>

namespace tendril {
namespace {

constexpr int64_t kThreshold = 1000;  // more elements than this and long axes are shortened
constexpr int64_t kEdgeItems = 3;     // shown at each end of a shortened axis
constexpr int kDigits = 4;            // after the decimal point, at most
constexpr size_t kLineWidth = 100;

// The indices of one axis that are shown; -1 stands for "...".
std::vector<int64_t> shown_indices(int64_t size, bool shorten) {
  std::vector<int64_t> result;
  const bool cut = shorten && size > 2 * kEdgeItems;
  for (int64_t i = 0; i < (cut ? kEdgeItems : size); ++i) result.push_back(i);
  if (!cut) return result;
  result.push_back(-1);
  for (int64_t i = size - kEdgeItems; i < size; ++i) result.push_back(i);
  return result;
}

// Offsets of the shown elements, in row-major order.
void collect_offsets(const Tensor& x, bool shorten, int64_t axis, int64_t offset,
                     std::vector<int64_t>& out) {
  if (axis == x.rank()) {
    out.push_back(offset);
    return;
  }
  for (const int64_t i : shown_indices(x.shape()[axis], shorten))
    if (i >= 0) collect_offsets(x, shorten, axis + 1, offset + i * x.strides()[axis], out);
}

// std::to_chars and not a stream: no locale may turn the point into a comma.
std::string float_text(double value, std::chars_format format) {
  char text[352];  // the longest double in fixed notation has 309 digits before the point
  return {text, std::to_chars(text, text + sizeof text, value, format, kDigits).ptr};
}

struct FloatFormat {
  std::chars_format notation = std::chars_format::fixed;
  size_t drop = 0;  // trailing zeros of the mantissa that no shown number needs

  explicit FloatFormat(const std::vector<double>& values) {
    double largest = 0, smallest = INFINITY;
    bool whole = true;
    for (const double value : values) {
      if (!std::isfinite(value) || value == 0) continue;
      largest = std::max(largest, std::abs(value));
      smallest = std::min(smallest, std::abs(value));
      whole = whole && value == std::trunc(value);
    }
    // Fixed notation would hide the small numbers or drown in digits.
    const bool uneven = !whole && (smallest < 1e-4 || largest / smallest > 1e3);
    if (largest >= 1e8 || (largest > 0 && uneven)) notation = std::chars_format::scientific;
    drop = kDigits;
    for (const double value : values)
      if (std::isfinite(value))
        drop = std::min(drop, trailing_zeros(mantissa(float_text(value, notation))));
  }

  static std::string mantissa(const std::string& text) { return text.substr(0, text.find('e')); }
  static size_t trailing_zeros(const std::string& text) {
    return text.size() - 1 - text.find_last_not_of('0');
  }

  std::string operator()(double value) const {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    const std::string text = float_text(value, notation);
    const std::string head = mantissa(text);
    // With all decimals dropped the point goes too: whole numbers read 1, 2, 3.
    const size_t dropped = drop == kDigits ? kDigits + 1 : drop;
    return head.substr(0, head.size() - dropped) + text.substr(head.size());
  }
};

std::vector<std::string> element_texts(const Tensor& x, const std::vector<int64_t>& offsets) {
  std::vector<std::string> texts;
  texts.reserve(offsets.size());
  visit_dtype(x.dtype(), [&]<class T>(TypeTag<T>) {
    const T* data = x.data<T>();
    if constexpr (is_floating(dtype_of<T>())) {
      std::vector<double> values;
      for (const int64_t offset : offsets) values.push_back(static_cast<double>(data[offset]));
      const FloatFormat format(values);
      for (const double value : values) texts.push_back(format(value));
    } else {
      for (const int64_t offset : offsets) {
        if constexpr (std::is_same_v<T, bool>)
          texts.push_back(data[offset] ? "true" : "false");
        else
          texts.push_back(std::to_string(data[offset]));
      }
    }
  });
  return texts;
}

class Writer {
 public:
  Writer(const Tensor& x, bool shorten, std::vector<std::string> texts)
      : shape_(x.shape()), shorten_(shorten), texts_(std::move(texts)) {
    for (const auto& text : texts_) width_ = std::max(width_, text.size());
  }

  std::string run() {
    if (shape_.rank() == 0) return texts_[0];
    axis(0);
    return std::move(out_);
  }

 private:
  void axis(int64_t axis_index) {
    const bool last = axis_index == shape_.rank() - 1;
    out_ += '[';
    bool first = true;
    for (const int64_t i : shown_indices(shape_[axis_index], shorten_)) {
      if (!first) separate(axis_index, last, i < 0 ? 3 : width_);
      first = false;
      if (i < 0)
        out_ += "...";
      else if (last)
        element();
      else
        axis(axis_index + 1);
    }
    out_ += ']';
  }

  // Rows stand under each other; blocks of rows are set apart by empty lines; long rows are
  // wrapped.
  void separate(int64_t axis_index, bool last, size_t next_width) {
    out_ += ',';
    const size_t line_length = out_.size() - (out_.rfind('\n') + 1);  // npos + 1 == 0
    if (last && line_length + 1 + next_width < kLineWidth) {
      out_ += ' ';
      return;
    }
    const int64_t breaks = last ? 1 : shape_.rank() - 1 - axis_index;
    out_.append(static_cast<size_t>(breaks), '\n').append(static_cast<size_t>(axis_index) + 1, ' ');
  }

  void element() {
    const std::string& text = texts_[next_++];
    out_.append(width_ - text.size(), ' ').append(text);
  }

  const Shape& shape_;
  bool shorten_;
  std::vector<std::string> texts_;
  size_t width_ = 0, next_ = 0;
  std::string out_;
};

std::string numbers_text(const Tensor& x) {
  if (x.numel() == 0) return "[]";
  const bool shorten = x.numel() > kThreshold;
  std::vector<int64_t> offsets;
  collect_offsets(x, shorten, 0, 0, offsets);
  return Writer(x, shorten, element_texts(x, offsets)).run();
}

}  // namespace

std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined tensor";
  const std::string suffix =
      detail::concat(tensor.dtype(), ' ', tensor.shape(), ' ', tensor.device());
  return tensor.device().is_cpu() ? numbers_text(tensor) + ' ' + suffix : suffix;
}

std::ostream& operator<<(std::ostream& out, const Tensor& tensor) {
  return out << to_string(tensor);
}

}  // namespace tendril
