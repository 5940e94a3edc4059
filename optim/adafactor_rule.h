// Private to optim: Adafactor's rule, for a gradient of any shape; adafactor.h says the formulas.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include <tendril/optim/adafactor.h>
#include <tendril/optim/pieces.h>

namespace tendril::optim {

/// Error for options out of range.
void check_adafactor(const AdafactorOptions& options);

/// Names and shapes of what the rule keeps.
std::vector<std::pair<std::string, Shape>> adafactor_states(const AdafactorOptions& options,
                                                            const Shape& gradient);

/// The rate of a step for the parameter's `value`: one number, on its device.
Tensor adafactor_rate(const AdafactorOptions& options, double lr, int64_t step,
                      const Tensor& value);

/// A gradient's squares into the second moments, the first of `states`; the gradient may have any
/// floating dtype.
void enter_squares(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                   std::span<const Tensor> states);

/// What a gradient of this rank is multiplied by: one over the root of its second moment, for a
/// matrix as a factor for each row (..., rows, 1) and one for each column (..., 1, columns).
std::vector<Tensor> gradient_factors(int64_t rank, std::span<const Tensor> states);
/// The product, for a piece of the gradient.
Tensor scaled_gradient(const Tensor& part, std::span<const Tensor> factors, const Piece& piece);

/// What the rule takes from the parameter, decay aside, one piece of the gradient after the other.
class AdafactorChange {
 public:
  /// Enters the gradient into `states`, which are adafactor_states(), and finds the change's size.
  AdafactorChange(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                  std::span<const Tensor> states, const Tensor& rate);
  /// To be called once for each piece, as it enters exp_avg.
  Tensor of(const Piece& piece) const;

 private:
  Tensor direction(const Piece& piece) const;

  double beta1_;
  Tensor gradient_, rate_, mean_, excess_;
  std::vector<Tensor> factors_;
};

/// The same, all at once.
Tensor adafactor_change(const AdafactorOptions& options, int64_t step, const Tensor& gradient,
                        std::span<const Tensor> states, const Tensor& rate);

}  // namespace tendril::optim
