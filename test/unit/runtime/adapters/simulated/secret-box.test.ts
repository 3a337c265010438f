import { createSimulatedSecretBox } from "../../../../../src/runtime/adapters/simulated/secret-box.ts";
import { secretBoxSuite } from "../../../../conformance/secret-box.ts";

secretBoxSuite(createSimulatedSecretBox);
