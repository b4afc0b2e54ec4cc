#!/usr/bin/env node
/**
 * Starts the program. Compiled code is cached where Node can (22.1 and later), which must be switched on
 * before the rest is loaded.
 */

import module from 'node:module';

(module as { enableCompileCache?: () => unknown }).enableCompileCache?.();
void import('./main.ts').then(({ main }) => main(process.argv));
