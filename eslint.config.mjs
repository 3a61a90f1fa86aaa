// `make javascript` checks the live figures with this; nothing is installed for it.

const names = [
  "Blob",
  "IntersectionObserver",
  "URL",
  "URLSearchParams",
  "Worker",
  "atob",
  "clearTimeout",
  "console",
  "document",
  "fetch",
  "getComputedStyle",
  "location",
  "matchMedia",
  "navigator",
  "performance",
  "self",
  "setTimeout",
  "window",
];

export default [
  {
    files: ["book/_static/live/*.js"],
    languageOptions: { globals: Object.fromEntries(names.map((name) => [name, "readonly"])) },
    rules: {
      "no-undef": "error",
      "no-unused-vars": "error",
      "no-shadow": ["error", { allow: ["_"] }],
      "no-var": "error",
      "prefer-const": "error",
      eqeqeq: "error",
      "array-callback-return": "error",
      "no-constant-condition": "error",
      "no-dupe-keys": "error",
      "no-fallthrough": "error",
      "no-redeclare": "error",
      "no-self-compare": "error",
      "no-unreachable": "error",
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
    },
  },
];
