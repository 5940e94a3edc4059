#include <tendril/autograd/autocast.h>

#include <unordered_map>
#include <utility>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/node.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/layout.h>

namespace tendril {
namespace {

bool is_16_bit(DType dtype) { return dtype == bf16 || dtype == f16; }

// Whether x is a parameter or shares its memory: only those are worth keeping rounded.
bool is_of_parameter(const Tensor& x) {
  if (!x.requires_grad()) return false;
  const auto& node = x.autograd_slot()->node;
  if (!node) return true;
  if (node->inputs.size() != 1 || !node->inputs[0].node) return false;
  const Tensor leaf = node->inputs[0].node->leaf.lock();
  return leaf.defined() && leaf.storage() == x.storage();
}

// A weight that is stored transposed stays so.
Tensor rounded(const Tensor& x, DType dtype) {
  if (x.rank() == 2 && ops::is_column_major(x))
    return ops::transpose(ops::cast(ops::transpose(x, 0, 1), dtype), 0, 1);
  return ops::cast(x, dtype);
}

// The rounded parameters of a thread's guards.
class Cache {
 public:
  Tensor round(const Tensor& x, DType dtype) {
    const auto [begin, end] = entries_.equal_range(x.storage().get());
    for (auto entry = begin; entry != end; ++entry)
      if (entry->second.is_of(x, dtype)) return entry->second.rounded;
    Entry made{ops::raw(x), x.storage()->version(), rounded(x, dtype)};
    return entries_.emplace(x.storage().get(), std::move(made))->second.rounded;
  }
  void clear() { entries_.clear(); }

 private:
  struct Entry {
    Tensor source;  // off the tape; keeps the memory, so that its address stays its own
    uint32_t version;
    Tensor rounded;

    bool is_of(const Tensor& x, DType dtype) const {
      return version == x.storage()->version() && rounded.dtype() == dtype &&
             source.dtype() == x.dtype() && source.offset() == x.offset() &&
             source.shape() == x.shape() && source.strides() == x.strides();
    }
  };
  std::unordered_multimap<const Storage*, Entry> entries_;
};

struct Policy {
  std::optional<DType> dtype;
  int64_t guards = 0;
  Cache cache;
};
thread_local Policy policy;

}  // namespace

AutocastGuard::AutocastGuard(std::optional<DType> dtype) : previous_(policy.dtype) {
  TENDRIL_CHECK(!dtype || is_16_bit(*dtype), "[AutocastGuard] needs bf16 or f16; got ", *dtype,
                "; nullopt turns it off");
  policy.dtype = dtype;
  ++policy.guards;
}

AutocastGuard::~AutocastGuard() {
  policy.dtype = previous_;
  if (--policy.guards == 0) policy.cache.clear();
}

std::optional<DType> autocast_dtype() { return policy.dtype; }

namespace detail {

bool autocast_allows(const Tensor& operand) { return !operand.defined() || operand.dtype() != f64; }

Tensor autocast_round(const Tensor& x) {
  const DType dtype = *policy.dtype;
  if (!x.defined() || !is_floating(x.dtype()) || x.dtype() == dtype) return x;
  return is_of_parameter(x) ? policy.cache.round(x, dtype) : rounded(x, dtype);
}

Tensor autocast_wide(const Tensor& x) {
  return policy.dtype && x.defined() && is_16_bit(x.dtype()) ? to(x, f32) : x;
}

}  // namespace detail
}  // namespace tendril
