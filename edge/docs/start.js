// Starts the API reference (Scalar) on the page of edge/docs/page.ts.
Scalar.createApiReference("#reference", {
  url: "/openapi.json",
  // Send nothing to other hosts and load nothing from them.
  proxyUrl: "",
  telemetry: false,
  withDefaultFonts: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  hideClientButton: true,
  showDeveloperTools: "never",
  persistAuth: false,
  defaultHttpClient: { targetKey: "shell", clientKey: "curl" },
  documentDownloadType: "json",
  // By default the section is called "Models", which are something else here.
  modelsSectionLabel: "Schemas",
  // Long lines of the introduction's code break, because the keyboard could not scroll them on a narrow screen.
  // Scalar's own greys, links and method colours have less contrast than WCAG AA asks for (4.5:1).
  customCss: `
    code.language-sh, code.language-sh * { white-space: pre-wrap !important; }
    .light-mode {
      --scalar-color-2: #454545; --scalar-color-3: #5c5c5c;
      --scalar-sidebar-color-2: #454545; --scalar-sidebar-search-color: #5c5c5c;
      --scalar-color-green: #046b3f; --scalar-color-blue: #0b5cad;
      --scalar-color-orange: #9a4700; --scalar-color-red: #b3151f;
      --scalar-color-accent: #0b5cad;
    }
    .dark-mode {
      --scalar-color-2: #c4c4c4; --scalar-color-3: #a8a8a8;
      --scalar-sidebar-color-2: #c4c4c4; --scalar-sidebar-search-color: #a8a8a8;
      --scalar-color-red: #ff8080;
    }
  `,
});
