// Private to optim: Adafactor's rule, for a gradient of any shape; adafactor.h says the formulas.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tendril/optim/adafactor.h>

namespace tendril::optim {

/// Error for options out of range.
void check_adafactor(const AdafactorOptions& options);

/// Names and shapes of what the rule keeps.
std::vector<std::pair<std::string, Shape>> adafactor_states(const AdafactorOptions& options,
                                                            const Shape& gradient);

/// The rate of a step for the parameter's `value`: one number, on its device.
Tensor adafactor_rate(const AdafactorOptions& options, double lr, int64_t step,
                      const Tensor& value);

/// A gradient's squares into the second moments, the first of `states`.
void enter_squares(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                   std::span<const Tensor> states);

/// What the rule takes from the parameter, decay aside. `states` are adafactor_states(), which this
/// step enters.
Tensor adafactor_change(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                        std::span<const Tensor> states, const Tensor& rate);

}  // namespace tendril::optim
