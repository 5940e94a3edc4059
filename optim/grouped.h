// An optimizer whose parameter groups have options of one type. The options are TENDRIL_API, since a
// shared library exports an instantiation only when it exports what it is made for.
#pragma once

#include <vector>

#include <tendril/optim/optimizer.h>

namespace tendril::optim {

template <class Options>
class TENDRIL_API Grouped : public Optimizer {
 public:
  /// Error for options out of range, and see Optimizer::register_group.
  void add_param_group(const std::vector<NamedTensor>& parameters, const Options& options = {}) {
    check(options);
    register_group(parameters, options.lr);
    options_.push_back(options);
  }

 protected:
  virtual void check(const Options& options) const = 0;
  const Options& options_of(const Slot& slot) const { return options_[slot.group]; }

 private:
  std::vector<Options> options_;  // one per group
};

}  // namespace tendril::optim
