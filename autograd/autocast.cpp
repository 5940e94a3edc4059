#include <tendril/autograd/autocast.h>

#include <algorithm>
#include <memory>
#include <vector>

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

// The rounded parameters of a thread's guards. They do not keep the parameters' own memory: a guard
// may live through a whole training in which parameters get new memory.
class Cache {
 public:
  Tensor round(const Tensor& x, DType dtype) {
    std::erase_if(entries_, [](const Entry& entry) { return entry.memory.expired(); });
    const auto found = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const Entry& entry) { return entry.is_of(x, dtype); });
    Entry& entry = found == entries_.end() ? entries_.emplace_back() : *found;
    const uint32_t version = x.storage()->version();
    if (!entry.rounded.defined() || entry.version != version)
      entry = {x.storage(), x.offset(), x.shape(), x.strides(), version, rounded(x, dtype)};
    return entry.rounded;
  }
  void clear() { entries_.clear(); }

 private:
  struct Entry {
    std::weak_ptr<Storage> memory;
    int64_t offset = 0;
    Shape shape;
    Strides strides;
    uint32_t version = 0;
    Tensor rounded;

    bool is_of(const Tensor& x, DType dtype) const {
      const bool same_memory =
          !memory.owner_before(x.storage()) && !x.storage().owner_before(memory);
      return same_memory && offset == x.offset() && rounded.dtype() == dtype &&
             shape == x.shape() && strides == x.strides();
    }
  };
  std::vector<Entry> entries_;
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
