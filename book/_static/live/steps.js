// Guided steps to the experiment of the book's front page: test scene 3, digit for digit.
// Every figure named here is measured; tests/book/test_live.py compares it with the page.

/** The front page's scene. Clutter, light and noise come from a seed, the digits from the data. */
export const FRONT_PAGE =
  "8.4.7.28.33.31_1.48.339.109.213.88.-9.72.83.72.92_4.17.293.333.189.86.-2.81.82.67.83" +
  "_2.53.128.198.213.80.-25.75.77.88.95_3.60.289.78.173.95.9.76.69.86.84";

/** What the last step names: of the held-out hands, how many keep the 0 at 50% or more. */
export const OTHER_HANDS = { kept: 20, tried: 59 };

/**
 * title, text; `action`: the button that leads to the step; `remove`: the digit that is taken out
 * of the front page's scene, or null; `select`: the digit to select; `expect`: the probability of
 * a 0 then, in percent, by model.
 */
export const STEPS = [
  {
    title: "A 0 that is not there",
    text:
      "This scene shows 1, 2, 3 and 4. ML-VPT reports a 0 as well, at 88%; VPT-deep at 53%. " +
      "In the scenes that both were trained on, 0 is often seen with 1 and 2. Which of the two " +
      "gives the models the idea?",
    action: "Start again",
    remove: null,
    expect: { "ML-VPT": 88, "VPT-deep": 53 },
  },
  {
    title: "Is it the 1?",
    text:
      "Without the 1, ML-VPT still reports the 0, at 93%, and VPT-deep even at 78%. " +
      "It is not the 1.",
    action: "Remove the 1",
    remove: 1,
    expect: { "ML-VPT": 93, "VPT-deep": 78 },
  },
  {
    title: "Is it the 2?",
    text:
      "With the 1 back in its place and without the 2, the 0 falls to 10% for ML-VPT and to 4% " +
      "for VPT-deep. It hangs on the 2. On its company, or on its shape?",
    action: "Remove the 2",
    remove: 2,
    expect: { "ML-VPT": 10, "VPT-deep": 4 },
  },
  {
    title: "Company, or shape?",
    text:
      "The 2 is back and selected, and the 0 stands at 88% and 53% again. Press \u201cAnother " +
      `hand\u201d, more than once: of ${OTHER_HANDS.tried} hands, ${OTHER_HANDS.kept} keep ` +
      "ML-VPT's 0 at 50% or more. So much of it was the shape of this one 2.",
    action: "Put the 2 back",
    remove: null,
    select: 2,
    expect: { "ML-VPT": 88, "VPT-deep": 53 },
  },
];
