// ops.def as data: an enumeration, and a table for tests, documents and profiles.
#pragma once

#include <cstdint>
#include <span>

#include <tendril/core/api.h>

namespace tendril {

enum class Op : uint16_t {
#define UNARY(op, ...) op,
#define UNARY1(op, ...) op,
#define UNARY_NONDIFF(op, ...) op,
#define BINARY(op, ...) op,
#define COMPARE(op, ...) op,
#define OP(op) op,
#define NONDIFF(op, ...) op,
#include <tendril/core/ops/ops.def>
  count
};

struct OpInfo {
  enum class Kind : uint8_t { unary, binary, compare, structured };
  Op op;
  const char* name;
  Kind kind;
  const char* why_not_differentiable;  // null when it is differentiable
};

TENDRIL_API std::span<const OpInfo> op_list();  // in the order of ops.def
TENDRIL_API const OpInfo& info(Op op);
inline const char* name(Op op) { return info(op).name; }

}  // namespace tendril
