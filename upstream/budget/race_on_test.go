//go:build race

package budget

// raceDetector makes everything ten times slower.
const raceDetector = true
