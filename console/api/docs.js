// Swagger UI over this server's own document. validatorUrl: it would send the document to another host.

// The document is OpenAPI 3.1, and the packaged Swagger UI knows 3.0: what the two write differently is put as 3.0 has it, to be shown.
function shown(value) {
  if (Array.isArray(value)) return value.map(shown);
  if (value === null || typeof value !== "object") return value;
  const { anyOf, examples, const: only, ...rest } = value;
  const others = anyOf?.filter((one) => one.type !== "null");
  const made = Object.fromEntries(Object.entries(rest).map(([name, each]) => [name, shown(each)]));
  if (anyOf) Object.assign(made, others.length === 1 ? shown(others[0]) : { anyOf: shown(others) }, others.length < anyOf.length && { nullable: true });
  if (Array.isArray(examples)) [made.example] = examples;
  else if (examples) made.examples = shown(examples);
  if (only !== undefined) made.enum = [only];
  return made;
}

const document31 = await (await fetch("openapi.json")).json();
window.ui = SwaggerUIBundle({
  spec: { ...shown(document31), openapi: "3.0.3" },
  dom_id: "#page",
  validatorUrl: null,
  deepLinking: true,
  defaultModelsExpandDepth: 0,
});
document.title = document31.info.title;
