// Small things that several test files need.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include <tendril/core/tensor.h>

namespace tendril::testing {

/// A 1-D f64 tensor that requires grad.
inline Tensor leaf(std::initializer_list<double> values) {
  Tensor x = Tensor::from<double>(values, {static_cast<int64_t>(values.size())});
  return x.requires_grad_();
}

inline std::vector<double> numbers(const Tensor& x) { return x.to_vector<double>(); }

/// What the tendril::Error says that `body` throws; "" when it throws none.
std::string message_of(const auto& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace tendril::testing
