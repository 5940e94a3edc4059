#include <tendril/core/dtype.h>

#include <ostream>

namespace tendril {

const char* name(DType dtype) {
  static constexpr const char* kNames[] = {"f64", "f32", "bf16", "f16", "i64", "i32", "u8", "bool"};
  const auto index = static_cast<size_t>(dtype);
  return index < kDTypeCount ? kNames[index] : "invalid";
}

std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name(dtype); }

DType promote(DType a, DType b) {
  if (a == b) return a;
  if (is_floating(a) && is_floating(b)) {
    const bool both_16_bit = size_of(a) == 2 && size_of(b) == 2;
    return both_16_bit ? DType::f32 : (size_of(a) > size_of(b) ? a : b);
  }
  if (is_floating(a) != is_floating(b)) return is_floating(a) ? a : b;
  return a < b ? a : b;  // the enumeration lists i64, i32, u8, bool from wide to narrow
}

}  // namespace tendril
