// The paired t-test, two-sided. p = I_x(ν/2, 1/2) with x = ν / (ν + t²), the regularised incomplete beta function,
// by its continued fraction (Abramowitz & Stegun 26.5.8) with Lentz's method; accurate for tiny p as well.
"use strict";
window.Statistics = (() => {
  // Stirling's series for ln Γ, after shifting the argument up to where it converges (A & S 6.1.41).
  const logGamma = (x) => {
    let shift = 0;
    while (x < 10) shift += Math.log(x++);
    const square = 1 / (x * x);
    const series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / x;
    return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + series - shift;
  };
  const fraction = (x, a, b) => {
    const tiny = 1e-300;
    let c = 1;
    let d = 1 / (Math.abs(1 - ((a + b) * x) / (a + 1)) < tiny ? tiny : 1 - ((a + b) * x) / (a + 1));
    let value = d;
    for (let m = 1; m <= 500; m++) {
      const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
      const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
      let factor = 1;
      for (const term of [even, odd]) {
        d = 1 + term * d;
        c = 1 + term / c;
        d = 1 / (Math.abs(d) < tiny ? tiny : d);
        c = Math.abs(c) < tiny ? tiny : c;
        factor = c * d;
        value *= factor;
      }
      if (Math.abs(factor - 1) < 1e-15) break;
    }
    return value;
  };
  const incompleteBeta = (x, y, a, b) => {
    // y = 1 - x, handed over so that neither loses digits
    if (x <= 0) return 0;
    if (y <= 0) return 1;
    const front = Math.exp(
      logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(y),
    );
    return x < (a + 1) / (a + b + 2) ? (front * fraction(x, a, b)) / a : 1 - (front * fraction(y, b, a)) / b;
  };
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const std = (values) => {
    const centre = mean(values);
    return Math.sqrt(values.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (values.length - 1));
  };
  const studentP = (t, freedom) =>
    incompleteBeta(freedom / (freedom + t * t), (t * t) / (freedom + t * t), freedom / 2, 0.5);
  const pairedTest = (differences) => {
    const n = differences.length;
    const centre = mean(differences);
    const spread = Math.max(...differences) - Math.min(...differences);
    if (spread === 0) return {mean: centre, t: null, p: centre === 0 ? 1 : 0, n};
    const t = centre / (std(differences) / Math.sqrt(n));
    return {mean: centre, t, p: studentP(t, n - 1), n};
  };
  return {mean, std, studentP, pairedTest};
})();
