# ruff: noqa: E501 - a mutant is one line, to be read across
"""Wrong references with a name: what somebody might believe batch normalization to be. Each must fail the tests.

`field` is the field of `Semantics` that the mutant ignores or misreads, where it is about one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Named:
    """A mutant: in `module`, the text `before`, which occurs once, becomes `after`."""

    name: str
    module: str
    before: str
    after: str
    field: str | None = None


NAMED = (
    # What is normalized, and by what
    Named("beta before gamma", "batch_norm", "    return z if parameters.beta is None else z + broadcast(parameters.beta, spec, z.ndim)", "    return z if parameters.beta is None else z + broadcast(parameters.gamma * parameters.beta, spec, z.ndim)"),
    Named("gamma instead of 1 + 0", "batch_norm", "        z = z * broadcast(parameters.gamma, spec, z.ndim)", "        z = z * (1 + broadcast(parameters.gamma, spec, z.ndim))"),
    Named("one-pass variance", "batch_norm", "    return mean, average(deviation * deviation, axes, shares) - average(deviation, axes, shares) ** 2", "    return mean, average(x * x, axes, shares) - mean**2"),
    Named("mean not corrected", "batch_norm", "    mean = mean + average(x - mean, axes, shares)\n", ""),
    Named("variance unbiased in the output", "batch_norm", "    z = join((batch.x - mean) / spread(variance, spec, semantics)", "    z = join((batch.x - mean) / spread(variance * bessel(batch.n), spec, semantics)"),
    Named("inference by the batch", "batch_norm", "    mean, variance = broadcast(used.mean, spec, x.ndim), broadcast(used.variance, spec, x.ndim)\n    return", "    mean, variance = x.mean(0, keepdims=True), broadcast(used.variance, spec, x.ndim)\n    return"),
    Named("sums not pairwise", "batches", "    return np.expand_dims(np.ascontiguousarray(last).reshape(*kept, math.prod(summed)).sum(-1, initial=0), axes)", "    return np.expand_dims(np.ascontiguousarray(last).reshape(*kept, math.prod(summed)).cumsum(-1)[..., -1], axes)"),
    Named("axes reduced, not kept", "spec", "i not in kept_axes(spec, rank))", "i in kept_axes(spec, rank))"),
    Named("negative axes off by one", "spec", "axis + rank if axis < 0", "axis + rank - 1 if axis < 0"),
    Named("order of axes matters", "spec", "tuple(sorted(axis + rank if axis < 0 else axis for axis in axes))", "tuple(axis + rank if axis < 0 else axis for axis in axes)"),
    Named("statistics used are the batch's", "batch_norm", '    if semantics.training_statistics == "moving":', "    if False:", "training_statistics"),
    Named("statistics used are the old ones", "batch_norm", "        used = published(new, spec, semantics)", "        used = published(state, spec, semantics)", "training_statistics"),
    Named("epsilon always inside", "batch_norm", 'if semantics.epsilon_placement == "outside" else', "if False else", "epsilon_placement"),
    Named("epsilon not floored", "spec", "    floored = max(semantics.epsilon_floor or spec.epsilon, spec.epsilon)", "    floored = spec.epsilon", "epsilon_floor"),
    Named("epsilon floored from above", "spec", "    floored = max(semantics.epsilon_floor or spec.epsilon, spec.epsilon)", "    floored = min(spec.epsilon, semantics.epsilon_floor) or spec.epsilon", "epsilon_floor"),
    Named("epsilon never rounded", "spec", 'if semantics.epsilon_dtype == "float32" else floored', "if False else floored", "epsilon_dtype"),
    # What moves
    Named("momentum is the fraction updated", "averages", "    return rounded(1 - dtype(momentum), semantics)", "    return rounded(dtype(momentum), semantics)"),
    Named("old and new exchanged", "batch_norm", "State(kept * state.mean + fraction * mean,", "State(fraction * state.mean + kept * mean,"),
    Named("stored variance always biased", "averages", '    if semantics.stored_variance == "biased" or spec.renorm:', "    if True:", "stored_variance"),
    Named("stored variance always unbiased", "averages", '    if semantics.stored_variance == "biased" or spec.renorm:', "    if spec.renorm:", "stored_variance"),
    Named("renorm stores unbiased", "averages", '    if semantics.stored_variance == "biased" or spec.renorm:', '    if semantics.stored_variance == "biased":', "stored_variance"),
    Named("bessel of N + 1", "averages", "    return np.where(n > 1, several / (several - 1), 1)", "    return (n + 1) / n"),
    Named("one value: always 1", "averages", '    return n / (n - 1) if semantics.single_value == "nan" else bessel(n)', "    return bessel(n)", "single_value"),
    Named("one value: always NaN", "averages", '    return n / (n - 1) if semantics.single_value == "nan" else bessel(n)', "    return n / (n - 1)", "single_value"),
    Named("cumulative off by one", "averages", "rounded(1 / dtype(t), semantics)", "rounded(1 / dtype(t + 1), semantics)", "average"),
    Named("first batch not copied", "averages", 'semantics.average == "first_batch" and t == 1', 'semantics.average == "first_batch" and t == 0', "average"),
    Named("none kept is all kept", "averages", '    if semantics.average == "none":\n        return dtype(0)\n', "", "average"),
    Named("debiased one step late", "averages", "** state.updates\n", "** (state.updates + 1)\n", "average"),
    Named("never debiased", "averages", 'semantics.average != "zero_debiased" or', 'semantics.average != "zero" or', "average"),
    Named("fraction never rounded", "averages", 'if semantics.fraction_dtype == "float32" else value', "if False else value", "fraction_dtype"),
    Named("difference rounded, never momentum", "averages", '    if semantics.fraction_rounded == "momentum":', "    if False:", "fraction_rounded"),
    Named("variances averaged, never deviations", "batch_norm", ' or semantics.moving_spread == "stddev":', ":", "moving_spread"),
    Named("epsilon left in the moving variance", "renorm", "    return np.maximum(stddev * stddev - epsilon, 0)", "    return np.maximum(stddev * stddev, 0)", "moving_spread"),
    Named("moving variance may be negative", "renorm", "    return np.maximum(stddev * stddev - epsilon, 0)", "    return stddev * stddev - epsilon"),
    Named("what is not tracked moves", "averages", "    kept = spec.track and semantics", "    kept = semantics"),
    Named("what is not tracked infers by its start", "batch_norm", "    used = published(state, spec, semantics) if spec.track else train(x, parameters, state, spec, semantics)", "    used = published(state, spec, semantics)"),
    Named("what is not tracked has gradients of inference", "trace", "    if not spec.track:\n        return trace_training(x, parameters, state, spec, semantics, None, None, False)\n", ""),
    Named("frozen layers move", "averages", '    thawed = spec.trainable or semantics.frozen == "train"', "    thawed = True", "frozen"),
    Named("frozen layers never move", "averages", '    thawed = spec.trainable or semantics.frozen == "train"', "    thawed = spec.trainable", "frozen"),
    Named("frozen layers normalize by the batch", "batch_norm", '    if semantics.frozen == "infer" and not spec.trainable and spec.track:', "    if False:", "frozen"),
    Named("frozen gradients through the batch", "trace", '    if semantics.frozen == "infer" and not spec.trainable and spec.track:', "    if False:", "frozen"),
    Named("every call moves the state", "averages", '    asked = updating or semantics.updates == "always"', "    asked = True", "updates"),
    Named("update ops needed always", "averages", '    asked = updating or semantics.updates == "always"', "    asked = updating", "updates"),
    Named("an empty batch is kept", "averages", 'x.size == 0 and semantics.empty_batch == "keep"', "x.size == 0", "empty_batch"),
    Named("an empty batch is NaN", "averages", 'x.size == 0 and semantics.empty_batch == "keep"', "False", "empty_batch"),
    Named("mean begins at 0", "averages", "np.full(kept, semantics.initial_mean, dtype)", "np.full(kept, 0.0, dtype)", "initial_mean"),
    Named("variance begins at 1", "averages", "np.full(kept, semantics.initial_variance, dtype)", "np.full(kept, 1.0, dtype)", "initial_variance"),
    # Renorm
    Named("r upside down", "renorm", "    r, d = stddev / scale, (mean - toward) / scale", "    r, d = scale / stddev, (mean - toward) / scale"),
    Named("d the other way", "renorm", "    r, d = stddev / scale, (mean - toward) / scale", "    r, d = stddev / scale, (toward - mean) / scale"),
    Named("d over the batch's deviation", "renorm", "(mean - toward) / scale", "(mean - toward) / stddev"),
    Named("Q not floored", "renorm", '    if semantics.renorm == "tf_1_15":', "    if False:", "renorm"),
    Named("Q floored by epsilon, not its root", "renorm", "np.sqrt(stddev.dtype.type(floored_epsilon(spec, semantics)))", "stddev.dtype.type(floored_epsilon(spec, semantics))", "renorm"),
    Named("renorm after the update", "batch_norm", "spread(overall[1], spec, semantics), state, spec, semantics)", "spread(overall[1], spec, semantics), new, spec, semantics)", "renorm"),
    Named("TF 1.7 not blended with the batch", "renorm", "        scale = scale + (1 - old.stddev_weight) * stddev\n", "        scale = scale / np.maximum(old.stddev_weight, 1e-3)\n", "renorm"),
    Named("TF 1.7 not debiased", "renorm", "        debiased = new.stddev / new.stddev_weight", "        debiased = new.stddev", "renorm"),
    Named("TF 1.7 from the initial values", "renorm", '    if semantics.renorm == "tf_1_7":\n        return', "    if False:\n        return", "renorm"),
    Named("the paper's sigma without epsilon", "renorm", 'if semantics.renorm == "paper" else 0', "if False else 0", "renorm"),
    Named("the paper as TF 1.15", "renorm", '    if semantics.renorm == "paper":\n', "    if False:\n", "renorm"),
    Named("1.15 begins with epsilon in Q", "renorm", 'if semantics.renorm == "paper" else 0', "", "renorm"),
    Named("renorm_momentum ignored", "renorm", "complement(spec.renorm_momentum, semantics, mean.dtype.type)", "fraction"),
    Named("rmin after rmax", "renorm", "        r = np.minimum(r, number(limits.rmax))", "        r = np.maximum(np.minimum(r, number(limits.rmax)), rmin or 0)", "reversed_clipping"),
    Named("reversed clipping never refused", "validation", '    if rmax < rmin and semantics.reversed_clipping == "refused":', "    if False:", "reversed_clipping"),
    Named("reversed clipping always refused", "validation", '    if rmax < rmin and semantics.reversed_clipping == "refused":', "    if rmax < rmin:", "reversed_clipping"),
    Named("d clipped from above only", "renorm", "np.minimum(np.maximum(d, -number(limits.dmax)), number(limits.dmax))", "np.minimum(d, number(limits.dmax))"),
    Named("the paper's rmin not 1/rmax", "renorm", "        rmin = 1 / number(limits.rmax)", "        rmin = number(0)"),
    # Virtual batches, adjustment, masks
    Named("groups always strided", "batches", '    if semantics.virtual_batches == "contiguous":', "    if False:", "virtual_batches"),
    Named("groups always contiguous", "batches", '    if semantics.virtual_batches == "contiguous":', "    if True:", "virtual_batches"),
    Named("groups not put back", "batches", 'spec.virtual_batch_size is not None and semantics.virtual_batches == "contiguous"', "False", "virtual_batches"),
    Named("groups never ignored", "batches", 'if semantics.virtual_batches != "ignored" else (x.shape[0], 1)', "if True else (x.shape[0], 1)", "virtual_batches"),
    Named("pooled variance without the means", "averages", "variance + (mean - pooled) ** 2)", "variance)", "virtual_statistics"),
    Named("sequential in one step", "averages", '    if batch.virtual and semantics.virtual_statistics == "sequential":', "    if False:", "virtual_statistics"),
    Named("pooled as averaged", "averages", '    if batch.virtual and semantics.virtual_statistics == "pooled":', "    if False:", "virtual_statistics"),
    Named("the first group only", "batches", "(average(values, (1,)) if self.virtual else values)", "(values[:, 0] if self.virtual else values)", "virtual_statistics"),
    Named("indivisible inference refused", "validation", 'semantics.indivisible_inference == "refused"):', "True):", "indivisible_inference"),
    Named("indivisible inference accepted", "validation", '(training or semantics is None or semantics.indivisible_inference == "refused"):', "training:", "indivisible_inference"),
    Named("adjustment after gamma and beta", "batch_norm", "    return Training(affine(z, parameters, spec), new, *overall)", "    bare = (z - adjustment.bias) / adjustment.scale if adjustment else z\n    y = affine(bare, parameters, spec)\n    return Training(y * adjustment.scale + adjustment.bias if adjustment else y, new, *overall)"),
    Named("adjustment's bias first", "batch_norm", "        z = z * adjustment.scale + adjustment.bias", "        z = (z + adjustment.bias) * adjustment.scale"),
    Named("adjustment always taken", "validation", '    if semantics is not None and semantics.adjustment == "refused":', "    if False:", "adjustment"),
    Named("adjustment never taken", "validation", '    if semantics is not None and semantics.adjustment == "refused":', "    if semantics is not None:", "adjustment"),
    Named("weights as booleans", "batches", 'weights = weights != 0 if semantics.mask == "boolean" else weights', "weights = weights != 0", "mask"),
    Named("booleans as weights", "batches", 'weights = weights != 0 if semantics.mask == "boolean" else weights', "weights = weights", "mask"),
    Named("what a mask hides is seen", "batches", 'if semantics.mask == "boolean" else parts', "if False else parts", "mask"),
    Named("an ignored mask counts", "batches", ' or (semantics.mask == "ignored" and not nothing):', ":", "mask"),
    Named("masked values divided by N", "batches", "weights / divisor, kept", "weights / len(x), kept", "mask"),
    Named("no offset in the denominator", "batches", "    kept = n / (divisor + x.dtype.type(semantics.mask_offset))", "    kept = n / divisor", "mask_offset"),
    Named("offset shrinks only the mean", "batches", "return self.kept * mean, self.kept * (variance + ((1 - self.kept) * mean) ** 2)", "return self.kept * mean, variance", "mask_offset"),
    Named("nothing unmasked: always 0", "batches", 'if nothing or semantics.all_masked == "zero" or semantics.mask_offset else n', "", "all_masked"),
    Named("nothing unmasked: always NaN", "batches", 'if nothing or semantics.all_masked == "zero" or semantics.mask_offset else n', "if semantics.mask_offset else n", "all_masked"),
    Named("masks of any rank", "validation", '{"any": (shape, shape[:-1]), "full": (shape,), "without_last": (shape[:-1],)}[semantics.mask_rank]', "(shape, shape[:-1])", "mask_rank"),
    Named("zero epsilon never refused", "validation", 'spec.epsilon <= 0 and semantics.zero_epsilon == "refused"', "False", "zero_epsilon"),
    Named("a negative epsilon never refused", "validation", "spec.epsilon <= 0 and semantics", "spec.epsilon == 0 and semantics", "zero_epsilon"),
    Named("zero epsilon always refused", "validation", 'spec.epsilon <= 0 and semantics.zero_epsilon == "refused"', "spec.epsilon <= 0", "zero_epsilon"),
    # Storage
    Named("parameters stored as the input", "dtypes", "_name(dtype, semantics.parameter_dtype)", "dtype", "parameter_dtype"),
    Named("statistics stored as the input", "dtypes", "_name(dtype, semantics.statistics_dtype)", "dtype", "statistics_dtype"),
    Named("output stored as the input", "dtypes", "_name(dtype, semantics.output_dtype)", "dtype", "output_dtype"),
    Named("longdouble however narrow", "precision", "    if bits >= NEEDED_BITS:", "    if True:"),
    Named("sums as shallow as a tree", "precision", "    return 1 + max(summation_depth(half, dtype), summation_depth(n - half, dtype))", "    return 1 + summation_depth(half, dtype)"),
    Named("certified as if not corrected", "own_error", "by.residual(deviation, first)", "by.residual(magnitude, first)"),
    Named("a share costs no rounding", "own_error", "cls(depth + 2, depth + 1, roundoff(dtype)) if weighted else", "cls(depth, 1, roundoff(dtype)) if weighted else"),
    Named("the mean's error left out of the variance's", "own_error", "e_residual * (2 * e_mean + e_residual)", "e_residual * e_residual"),
    # Derivatives
    Named("gradient not through the mean", "gradients", "    mean_, variance_ = -step.a * total(g, axes),", "    mean_, variance_ = 0 * total(g, axes),"),
    Named("gradient not through the variance", "gradients", "-step.b * total(g * step.z, axes) / (2 * step.h)", "0 * total(g * step.z, axes)"),
    Named("statistics' cotangents not divided", "gradients", "    groups = step.mu.shape[1] if step.batch.virtual else 1", "    groups = 1"),
    Named("dgamma before r, d and adjustment", "gradients", "    dx = join(dx, x.shape, spec, semantics) if step.batch.virtual else dx\n    return Gradients(dx, step.batch.summed(dy * step.p, state)", "    dx = join(dx, x.shape, spec, semantics) if step.batch.virtual else dx\n    return Gradients(dx, step.batch.summed(dy * step.z, state)"),
    Named("the moving part is everything", "trace", "    a = np.asarray(update_fraction(new.updates, spec, semantics, batch.x.dtype.type))", "    a = np.asarray(batch.x.dtype.type(1))", "training_statistics"),
    Named("the moving part not unbiased", "trace", "    b = a * stored_factor(batch.n, spec, semantics)", "    b = a"),
    Named("the offset's bend forgotten", "trace", "2 * batch.kept * (1 - batch.kept) ** 2", "0 * batch.kept", "mask_offset"),
    Named("epsilon outside: root's slope of inside", "trace", '    h = s if semantics.epsilon_placement == "inside" else np.sqrt(variance)', "    h = s", "epsilon_placement"),
    Named("the new state always a constant", "averages", 'if semantics.new_state == "stopped" or not moves', "if semantics or not moves", "new_state"),
    Named("the new state never a constant", "averages", 'if semantics.new_state == "stopped" or not moves', "if not moves", "new_state"),
    Named("the new variance's weight not unbiased", "averages", "return fraction, fraction * stored_factor(n, spec, semantics)", "return fraction, fraction"),
    Named("inference's mean a constant", "second_order", "(along - mean - step.z * s) / step.s)", "(along - step.z * s) / step.s)"),
    Named("inference's variance a constant", "second_order", "        s = variance / (2 * step.h)\n        return", "        s = 0 * variance\n        return"),
    Named("the variance's mean always stopped", "trace", 'j = int(semantics.variance_mean == "differentiated")', "j = 0", "variance_mean"),
    Named("the variance's mean never stopped", "trace", 'j = int(semantics.variance_mean == "differentiated")', "j = 1", "variance_mean"),
    Named("second order without the root's bend", "second_order", " - used_ * rate.s / step.h)", ")"),
    Named("second order without the moving mean", "second_order", "(rate.x - step.j * rate.mu) * variance_", "rate.x * variance_"),
    Named("second order without z's rate", "second_order", "total(g_rate * step.z + g * rate.z, axes)", "total(g_rate * step.z, axes)"),
    Named("second order without gamma's rate", "second_order", "    dx = (rate.gamma * step.f * dy - g * rate.s) / step.s", "    dx = -g * rate.s / step.s"),
    Named("third order without the root's bend", "third_order", "(step.b * v2 - s1 * s1)", "(step.b * v2)"),
    Named("third order with the saved statistics constant", "third_order", "s2 = (step.b * v2 - s1 * s1) / (2 * step.h)", "s2 = 0 * s1"),
    Named("third order without the moving mean", "third_order", "    away = along - step.j * mu", "    away = along + 0 * mu"),
    Named("third order without the offset's bend", "third_order", " + step.c * mu * mu / 2", ""),
    Named("third order of the statistics with the steps before", "third_order", "tangent - step.a * step.k * mu[1]", "tangent - step.k * mu[1]"),
)  # fmt: skip
