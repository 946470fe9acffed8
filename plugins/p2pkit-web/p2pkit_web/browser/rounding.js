// The nearest whole number, of two as near the even one, as Python and NumPy round.
export function rounded(value) {
  const low = Math.floor(value);
  return value - low === 0.5 ? low + (low % 2 ? 1 : 0) : Math.round(value);
}
