#include <tendril/core/ops/op_list.h>

namespace tendril {
namespace {

using Kind = OpInfo::Kind;
constexpr const char* kBoolean = "its result is boolean";

constexpr OpInfo kOps[] = {
#define UNARY(op, ...) {Op::op, #op, Kind::unary, nullptr},
#define UNARY1(op, ...) {Op::op, #op, Kind::unary, nullptr},
#define UNARY_NONDIFF(op, functor, kind, why) {Op::op, #op, Kind::unary, why},
#define BINARY(op, ...) {Op::op, #op, Kind::binary, nullptr},
#define COMPARE(op, ...) {Op::op, #op, Kind::compare, kBoolean},
#define OP(op) {Op::op, #op, Kind::structured, nullptr},
#define NONDIFF(op, why) {Op::op, #op, Kind::structured, why},
#include <tendril/core/ops/ops.def>
};

}  // namespace

std::span<const OpInfo> op_list() { return kOps; }

const OpInfo& info(Op op) { return kOps[static_cast<size_t>(op)]; }

}  // namespace tendril
