/** How the engine is chosen on a command line. */

export { type EngineChoice, parseEngineChoice } from '../forwarder/engine-choice.ts';
