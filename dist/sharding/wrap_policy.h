// Private to dist: which parameters form a unit.
#pragma once

#include <string>
#include <vector>

#include <tendril/dist/fully_sharded.h>

namespace tendril::dist {

struct UnitParameters {
  std::string name;  // of the module; "" for the root
  std::vector<NamedTensor> parameters;
};

/// The root unit first, then one per module that the policy names, in the model's order. A
/// parameter belongs to the innermost unit around it, and to the root when it is tied across units.
/// Parameters of modules whose name an expression of `ignored` matches are left out.
std::vector<UnitParameters> divide_into_units(nn::Module& model, const WrapPolicy& wrap,
                                              const std::vector<std::string>& ignored);

}  // namespace tendril::dist
