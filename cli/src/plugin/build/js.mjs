// Called as: node js.mjs SOURCE WIT WORLD OUTPUT

import { readFile, writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const [source, witPath, worldName, output] = process.argv.slice(2);
const { component } = await componentize(await readFile(source, 'utf8'), {
  witPath,
  worldName,
  sourceName: 'plugin.js',
  // They would import wasi:http, which a host does not have.
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(output, component);
