// Element types, their promotion rules, and the switch from a run-time DType to a C++ type.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <type_traits>

#include <tendril/core/error.h>
#include <tendril/core/half.h>

namespace tendril {

enum class DType : uint8_t { f64, f32, bf16, f16, i64, i32, u8, bool_ };

inline constexpr DType f64 = DType::f64, f32 = DType::f32, bf16 = DType::bf16, f16 = DType::f16,
                       i64 = DType::i64, i32 = DType::i32, u8 = DType::u8, bool_ = DType::bool_;
inline constexpr int kDTypeCount = 8;

TENDRIL_API const char* name(DType dtype);  // "f32", "bool", ...
TENDRIL_API std::ostream& operator<<(std::ostream& out, DType dtype);

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
    case DType::bool_:
      return 1;
  }
  fail("[dtype] invalid dtype value ", static_cast<int>(dtype));
}

constexpr bool is_floating(DType dtype) { return dtype <= DType::f16; }

/// The dtype of an operation on two tensors:
///  - floating beats integer beats bool; the other operand takes the floating type
///  - within a group the wider type wins: bool < u8 < i32 < i64, and 16-bit < f32 < f64
///  - f16 with bf16 gives f32, since neither holds the other
/// A C++ scalar never changes a floating tensor's dtype; a fractional scalar turns an integer
/// tensor into f32.
TENDRIL_API DType promote(DType a, DType b);

/// The dtype in which kernels accumulate: f32 for 16-bit floats, otherwise the type itself.
constexpr DType accumulate_dtype(DType dtype) {
  return dtype == DType::bf16 || dtype == DType::f16 ? DType::f32 : dtype;
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, double>)
    return DType::f64;
  else if constexpr (std::is_same_v<T, float>)
    return DType::f32;
  else if constexpr (std::is_same_v<T, bfloat16>)
    return DType::bf16;
  else if constexpr (std::is_same_v<T, float16>)
    return DType::f16;
  else if constexpr (std::is_same_v<T, int64_t>)
    return DType::i64;
  else if constexpr (std::is_same_v<T, int32_t>)
    return DType::i32;
  else if constexpr (std::is_same_v<T, uint8_t>)
    return DType::u8;
  else {
    static_assert(std::is_same_v<T, bool>, "not an element type of tendril::Tensor");
    return DType::bool_;
  }
}

template <class T>
inline constexpr bool is_half = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;

/// The C++ type in which arithmetic on T is done.
template <class T>
using compute_t = std::conditional_t<is_half<T>, float, T>;

template <class T>
struct TypeTag {
  using type = T;
};

/// Calls `body(TypeTag<T>{})` with the C++ type of `dtype`.
template <class Body>
decltype(auto) visit_dtype(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f64:
      return body(TypeTag<double>{});
    case DType::f32:
      return body(TypeTag<float>{});
    case DType::bf16:
      return body(TypeTag<bfloat16>{});
    case DType::f16:
      return body(TypeTag<float16>{});
    case DType::i64:
      return body(TypeTag<int64_t>{});
    case DType::i32:
      return body(TypeTag<int32_t>{});
    case DType::u8:
      return body(TypeTag<uint8_t>{});
    case DType::bool_:
      return body(TypeTag<bool>{});
  }
  fail("[dtype] invalid dtype value ", static_cast<int>(dtype));
}

/// The same for the four floating types; `op` names the operation in the error.
template <class Body>
decltype(auto) visit_floating(const char* op, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f64:
      return body(TypeTag<double>{});
    case DType::f32:
      return body(TypeTag<float>{});
    case DType::bf16:
      return body(TypeTag<bfloat16>{});
    case DType::f16:
      return body(TypeTag<float16>{});
    default:
      fail("[", op, "] needs a floating-point tensor; got ", name(dtype),
           "; cast it with to(x, f32)");
  }
}

/// And for the two index types.
template <class Body>
decltype(auto) visit_index(const char* op, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::i64:
      return body(TypeTag<int64_t>{});
    case DType::i32:
      return body(TypeTag<int32_t>{});
    default:
      fail("[", op, "] needs i64 or i32 indices; got ", name(dtype), "; cast them with to(x, i64)");
  }
}

}  // namespace tendril
