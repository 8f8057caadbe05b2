// Swagger UI over this server's own document. validatorUrl: it would send the document to another host.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#page",
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  onComplete: () => { document.title = window.ui.specSelectors.info().get("title"); },
});
